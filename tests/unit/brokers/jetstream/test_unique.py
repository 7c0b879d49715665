"""Locks of unique keys over weeks, by the stub twin's clock."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest

from brokers import BrokerOptions, JetStreamStubBroker, NotUniqueError, QueueSpec

_DAY = 86_400.0


@pytest.fixture
def broker() -> Iterator[JetStreamStubBroker]:
    broker = JetStreamStubBroker(BrokerOptions(), [QueueSpec(name="mail", stream="MAIL")])
    yield broker
    broker.close()


def send(broker: JetStreamStubBroker, delay_seconds: float | None = None) -> None:
    job: dramatiq.Message[None] = dramatiq.Message(
        queue_name="mail", actor_name="job", args=(), kwargs={}, options={"unique_key": "k"}
    )
    broker.enqueue(job, delay=None if delay_seconds is None else int(delay_seconds * 1000))


def test_a_message_due_long_after_the_streams_own_age_keeps_its_key(broker: JetStreamStubBroker) -> None:
    send(broker, delay_seconds=30 * _DAY)
    broker.advance(29 * _DAY)
    with pytest.raises(NotUniqueError):
        send(broker)


def test_a_key_whose_message_vanished_is_free_when_no_attempt_can_be_left(
    broker: JetStreamStubBroker,
) -> None:
    send(broker, delay_seconds=_DAY)
    broker.advance(8.5 * _DAY)  # it was due, and expired unrun
    assert broker.get_queue_message_counts("mail") == (0, 0, 0)
    with pytest.raises(NotUniqueError):
        send(broker)
    broker.advance(_DAY)
    send(broker)
    with pytest.raises(NotUniqueError):  # its lock is new
        send(broker)
