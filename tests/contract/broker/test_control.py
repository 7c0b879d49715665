"""Cancelling and hastening when the server says no or loses an answer: stub twin, one server, a cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from dramatiq.errors import ConnectionFailed

from brokers import JetStreamBroker, PublishRefusedError, control
from tests.contract.broker.harness import counts, only_ours
from tests.integration.broker.workers import message

pytestmark = only_ours

Publish = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
_NO_ROOM = 10047


def delayed(broker: JetStreamBroker, **options: Any) -> str:
    sent = broker.enqueue(message("work", queue="default", **options), delay=3_600_000)
    return sent.message_id


def lose_the_answer(broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is published arrives, and is published again as if nobody had heard of it."""
    session = broker.connection.session()
    publish: Publish = session.publish

    async def publish_twice(subject: str, payload: bytes, headers: Mapping[str, str]) -> int:
        await publish(subject, payload, headers)
        return await publish(subject, payload, headers)

    monkeypatch.setattr(session, "publish", publish_twice)


@pytest.mark.parametrize("action", [control.cancel, control.run_now])
def test_a_refusal_that_is_no_lost_race_is_shown_as_what_it_is(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch, action: Callable[..., None]
) -> None:
    async def refuse(*_: Any) -> int:
        refused = PublishRefusedError("no room")
        refused.code = _NO_ROOM
        raise refused

    message_id = delayed(broker)
    with monkeypatch.context() as patch:
        patch.setattr(broker.connection.session(), "publish", refuse)
        with pytest.raises(PublishRefusedError, match="no room"):
            action(broker, "default", message_id)
    assert counts(broker) == (0, 1, 0)
    action(broker, "default", message_id)


def test_a_message_is_cancelled_though_the_answer_to_its_putting_off_was_lost(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = delayed(broker)
    lose_the_answer(broker, monkeypatch)
    control.cancel(broker, "default", message_id)
    assert counts(broker) == (0, 0, 0)


def test_a_key_is_not_held_by_a_message_whose_cancelling_stopped_half_way(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = broker.connection.session()
    call, deletions = session.api, list[str]()

    async def break_at_the_second_deletion(name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        deletions.extend([name] if name.startswith("STREAM.MSG.DELETE") else [])
        if len(deletions) == 2:
            raise ConnectionFailed("cut off")  # type: ignore[no-untyped-call]  # Dramatiq's
        return await call(name, body)

    message_id = delayed(broker, unique_key="k")
    with monkeypatch.context() as patch:
        patch.setattr(session, "api", break_at_the_second_deletion)
        with pytest.raises(ConnectionFailed, match="cut off"):
            control.cancel(broker, "default", message_id)
    assert counts(broker) == (0, 1, 0)
    broker.enqueue(message("work", queue="default", unique_key="k"))
    control.cancel(broker, "default", message_id)  # finishes what was begun
    assert counts(broker) == (1, 0, 0)


def test_what_is_no_message_can_be_cancelled(broker: JetStreamBroker) -> None:
    session, headers = broker.connection.session(), {"Nats-Schedule": "@at 2099-01-01T00:00:00Z"}
    headers |= {"Nats-Schedule-Target": "transforms.ready.default", "Nats-TTL": "never"}
    broker.connection.run(session.publish("transforms.scheduled.default.odd", b"no message", headers))
    control.cancel(broker, "default", "odd")
    assert counts(broker) == (0, 0, 0)
