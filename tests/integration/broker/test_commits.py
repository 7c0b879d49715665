"""Messages that are stored together or not at all, when the server did not get all of them at first."""

from __future__ import annotations

from typing import Any

import nats.js.errors
import pytest
from nats.aio.client import Client

from brokers import JetStreamBroker, NotUniqueError
from brokers.jetstream.batch import publish_batch
from brokers.jetstream.publisher import may_take_it_later
from tests.integration.broker.workers import message


@pytest.fixture
def first_part_is_lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Once; grows by the numbers of all parts that were to be sent."""
    seen: list[str] = []
    publish = Client.publish

    async def lose_the_first(self: Client, *args: Any, **options: Any) -> None:
        headers = options.get("headers") or (args[3] if len(args) > 3 else None) or {}
        seen.append(headers.get("Nats-Batch-Sequence", ""))
        if seen[-1] != "1" or seen.count("1") > 1:
            await publish(self, *args, **options)

    monkeypatch.setattr(Client, "publish", lose_the_first)
    return seen


def test_a_unique_message_whose_lock_did_not_arrive_is_sent_again(
    broker: JetStreamBroker, first_part_is_lost: list[str]
) -> None:
    broker.enqueue(message("work", unique_key="k"))
    assert [number for number in first_part_is_lost if number] == ["1", "2", "1", "2"]
    assert broker.get_queue_message_counts("quick") == (1, 0, 0)
    with pytest.raises(NotUniqueError):
        broker.enqueue(message("work", unique_key="k"))


def test_a_batch_whose_first_message_did_not_arrive_is_sent_again(
    broker: JetStreamBroker, first_part_is_lost: list[str]
) -> None:
    parts = [("transforms.ready.quick", b"", {"Nats-Msg-Id": name}) for name in ("a", "b")]
    broker.connection.run(publish_batch(broker.connection.session(), parts))
    assert first_part_is_lost.count("1") == 2
    assert broker.get_queue_message_counts("quick") == (2, 0, 0)


@pytest.mark.parametrize(
    ("code", "err_code", "later"),
    [
        (503, 10008, True),  # no leader
        (409, 10158, True),  # being replicated
        (400, 10176, True),  # incomplete
        (429, 10210, True),  # too many batches
        (400, 10071, False),  # wrong last sequence
        (400, 10201, False),  # stored before
        (400, 10002, False),  # no room
    ],
)
def test_only_what_the_server_may_take_later_is_sent_again(code: int, err_code: int, later: bool) -> None:
    assert may_take_it_later(nats.js.errors.APIError(code=code, err_code=err_code)) is later
