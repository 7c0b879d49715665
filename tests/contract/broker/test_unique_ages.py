"""How long a unique key is held for a message that goes without ending: the twin's clock passes its age."""

from __future__ import annotations

from typing import Any

import pytest
from dramatiq.errors import BrokerConnectionError, Retry
from dramatiq.message import Message

from brokers import JetStreamStubBroker, NotUniqueError
from tests.contract.broker.harness import StartWorker, counts, declare
from tests.integration.broker.workers import message, wait_until

pytestmark = pytest.mark.parametrize("broker", ["stub-twin"], indirect=True)


def unique(**options: Any) -> Message[Any]:
    return message("work", queue="default", unique_key="k", **options)


def test_the_key_of_a_message_that_was_never_run_is_free_a_day_after_its_age(
    broker: JetStreamStubBroker,
) -> None:
    first = broker.enqueue(unique())
    broker.advance(7.9 * 86_400)
    assert counts(broker) == (0, 0, 0)
    with pytest.raises(NotUniqueError, match=first.message_id):
        broker.enqueue(unique())
    broker.advance(0.2 * 86_400)
    broker.enqueue(unique())
    assert counts(broker) == (1, 0, 0)


def test_a_message_keeps_its_key_through_the_ages_of_its_retries(
    broker: JetStreamStubBroker, start_worker: StartWorker
) -> None:
    def fail() -> None:
        raise Retry("not today", delay=6 * 86_400_000)

    declare(broker, fail, actor_name="work")
    broker.enqueue(unique())
    start_worker()
    for _ in range(2):  # the third attempt would begin after twelve days
        wait_until(lambda: counts(broker) == (0, 1, 0))
        broker.advance(5.9 * 86_400)
        with pytest.raises(NotUniqueError):
            broker.enqueue(unique())
        broker.advance(0.2 * 86_400)


def test_a_retry_whose_lock_cannot_be_written_anew_is_not_sent(broker: JetStreamStubBroker) -> None:
    sent = broker.enqueue(unique())
    broker.away = True
    with pytest.raises(BrokerConnectionError):
        broker.enqueue(sent.copy(options={**sent.options, "retries": 1}))
    broker.away = False
    assert counts(broker) == (1, 0, 0)
