"""A dead letter's record that others keep changing: given up in time, and the letter stays."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from brokers import BrokerOptions, JetStreamStubBroker, PublishRefusedError, QueueSpec, dead_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import WRONG_LAST_SEQUENCE
from tests.integration.broker import letters

QUEUES = [QueueSpec(name="default", stream="DEFAULT")]


def test_who_always_comes_second_gives_up_and_the_letter_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = JetStreamStubBroker(BrokerOptions(publish_timeout_seconds=0.3), QUEUES)
    letter = letters.bury(broker, spec=QUEUES[0])
    tries: list[str] = []

    async def overtaken(self: Session, subject: str, payload: bytes, headers: Mapping[str, str]) -> int:
        tries.append(subject)
        refused = PublishRefusedError("wrong last sequence")
        refused.code = WRONG_LAST_SEQUENCE
        raise refused

    with monkeypatch.context() as patched:
        patched.setattr(Session, "publish", overtaken)
        with pytest.raises(PublishRefusedError, match="wrong last sequence"):
            dead_letter.discard(broker, letter)
    assert 1 < len(tries) < 100
    assert dead_letter.discard(broker, letter) is not None
    broker.close()
