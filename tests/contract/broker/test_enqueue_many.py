"""enqueue_many when some of its messages cannot be stored, on the stub twin, one server and a cluster."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest
from dramatiq.errors import QueueNotFound

from brokers import JetStreamBroker, MessageTooLargeError, NotAllStoredError, NotUniqueError
from brokers.jetstream import sending
from tests.contract.broker.harness import counts, only_ours, take
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def job(*args: Any, **options: Any) -> dramatiq.Message[Any]:
    return message("work", *args, **{"queue": "default", **options})


class Enqueued(dramatiq.Middleware):
    def __init__(self) -> None:
        self.ids: list[str] = []

    def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        self.ids.append(message.message_id)


@pytest.fixture
def of_each_kind(broker: JetStreamBroker) -> list[dramatiq.Message[Any]]:
    """Good messages are at places 0, 2, 4, 6 and 8."""
    broker.enqueue(job("holder", unique_key="k"))
    bad = [job("second", unique_key="k"), job(queue="nowhere"), job("x" * 1_000_000), job(deadline="soon")]
    good = [job(number) for number in range(5)]
    return [good[0], bad[0], good[1], bad[1], good[2], bad[2], good[3], bad[3], good[4]]


@pytest.mark.parametrize("at_once", [1, 2, 5000])
def test_what_cannot_be_stored_stops_nothing_and_is_named_with_its_error(
    broker: JetStreamBroker,
    of_each_kind: list[dramatiq.Message[Any]],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    monkeypatch.setattr(sending, "_MOST_AT_ONCE", at_once)
    told = Enqueued()
    broker.add_middleware(told)
    with pytest.raises(NotAllStoredError, match="5 messages are stored and 4 are not") as caught:
        broker.enqueue_many(iter(of_each_kind))
    ids = [one.message_id for one in of_each_kind]
    assert [one.message_id for one in caught.value.stored] == ids[::2] == told.ids
    assert {number: caught.value.failed[ids[number]].__class__ for number in (1, 3, 5, 7)} == {
        1: NotUniqueError,
        3: QueueNotFound,
        5: MessageTooLargeError,
        7: ValueError,
    }
    assert counts(broker) == (6, 0, 0)


def test_one_message_fails_with_its_own_error(broker: JetStreamBroker) -> None:
    broker.enqueue(job(unique_key="k"))
    with pytest.raises(NotUniqueError):
        broker.enqueue(job(unique_key="k"))
    with pytest.raises(NotAllStoredError) as caught:
        broker.enqueue_many([job(unique_key="k")])
    assert caught.value.__cause__ is next(iter(caught.value.failed.values()))
    assert broker.enqueue_many([]) == []


def test_what_failed_can_be_enqueued_again_with_the_rest(
    broker: JetStreamBroker, of_each_kind: list[dramatiq.Message[Any]]
) -> None:
    with pytest.raises(NotAllStoredError):
        broker.enqueue_many(of_each_kind)
    consumer, holder = take(broker)
    consumer.ack(holder)
    wait_until(lambda: counts(broker) == (5, 0, 0))
    with pytest.raises(NotAllStoredError) as caught:
        broker.enqueue_many(of_each_kind)
    assert len(caught.value.failed) == 3  # the key is free
    assert counts(broker) == (6, 0, 0)
