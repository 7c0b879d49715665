"""What our broker promises beyond Dramatiq, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import BrokerConnectionError, QueueNotFound
from dramatiq.middleware import (
    AgeLimit,
    Callbacks,
    Pipelines,
    ShutdownNotifications,
    TimeLimit,
)

from brokers import (
    JetStreamBroker,
    JetStreamMessage,
    MessageTooLargeError,
    PublishRefusedError,
    ScheduledRetries,
    dead_letter,
    inspect,
)
from tests.contract.broker.harness import Run, StartWorker, counts, declare, depth, only_ours, take
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def job(*args: Any, **options: Any) -> dramatiq.Message[Any]:
    return message("job", *args, queue="default", **options)


def test_the_middleware_is_dramatiqs_with_our_retries(broker: JetStreamBroker) -> None:
    kinds = [type(middleware) for middleware in broker.middleware[1:]]
    assert kinds == [
        AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, ScheduledRetries,
    ]  # fmt: skip
    assert "no_dead_letter" in broker.actor_options


def test_only_the_given_queues_can_be_declared(broker: JetStreamBroker) -> None:
    with pytest.raises(QueueNotFound, match=r"'nowhere' is not one of \['default', 'other'\]"):
        broker.declare_queue("nowhere")
    with pytest.raises(QueueNotFound):
        declare(broker, lambda: None, queue_name="nowhere")
    assert broker.get_declared_queues() == set()
    broker.declare_queue("other")
    assert broker.get_declared_queues() == {"other"}
    assert broker.get_declared_delay_queues() == set()


def test_counts_tell_ready_scheduled_and_dead_messages_apart(broker: JetStreamBroker) -> None:
    broker.declare_queue("default")
    broker.enqueue(job("now"))
    broker.enqueue(job("as soon"))
    broker.enqueue(job("later"), delay=3_600_000)
    assert counts(broker) == (2, 1, 0)
    consumer, first = take(broker)
    consumer.ack(first)
    _, second = take(broker)
    second.fail()
    consumer.nack(second)
    wait_until(lambda: counts(broker) == (0, 1, 1))
    broker.flush_all()
    assert counts(broker) == (0, 0, 1)
    assert inspect.depths(broker)[1] == inspect.QueueDepth("other", 0, 0, 0, 0)


def test_a_message_is_in_flight_from_its_taking_to_its_end(broker: JetStreamBroker) -> None:
    broker.enqueue(job())
    consumer, taken = take(broker)
    assert (depth(broker).ready, depth(broker).in_flight) == (0, 1)
    consumer.ack(taken)
    wait_until(lambda: depth(broker) == inspect.QueueDepth("default", 0, 0, 0, 0))


def test_a_message_of_ours_knows_its_delivery_and_its_attempt(broker: JetStreamBroker) -> None:
    broker.enqueue(job(retries=2, traceparent="00-1-2-01"))
    _, taken = take(broker)
    assert isinstance(taken, JetStreamMessage)
    assert taken.attempt == 2
    assert (taken.delivery.spec.name, taken.delivery.deliveries) == ("default", 1)
    assert taken.delivery.headers["Dramatiq-Actor"] == "job"
    assert taken.delivery.headers["traceparent"] == "00-1-2-01"
    assert not taken.delivery.redelivered


def test_a_message_given_back_comes_again_and_costs_no_attempt(broker: JetStreamBroker) -> None:
    sent = broker.enqueue(job())
    for _ in range(8):  # more often than max_deliver
        consumer, taken = take(broker)
        assert (taken.message_id, taken.attempt) == (sent.message_id, 0)
        consumer.requeue([taken])
    consumer, taken = take(broker)
    assert taken.delivery.redelivered
    consumer.ack(taken)
    wait_until(lambda: counts(broker) == (0, 0, 0))


def test_a_message_given_back_for_a_while_is_not_taken_before(broker: JetStreamBroker) -> None:
    broker.enqueue(job())
    consumer, taken = take(broker)
    taken.hand_back(0.5)
    consumer.ack(taken)
    given_back = time.monotonic()
    assert next(consumer) is None
    assert counts(broker)[0] == 1
    consumer, again = take(broker)
    assert again.message_id == taken.message_id
    assert time.monotonic() - given_back >= 0.45


def test_the_same_attempt_sent_twice_is_stored_once(broker: JetStreamBroker) -> None:
    once = job()
    broker.enqueue(once)
    broker.enqueue(once)
    broker.enqueue(once, delay=60_000)
    assert counts(broker) == (1, 0, 0)
    broker.enqueue(once.copy(options={"retries": 1}))
    wait_until(lambda: counts(broker) == (2, 0, 0))


def test_a_second_schedule_of_a_message_replaces_the_first(broker: JetStreamBroker, run: Run) -> None:
    ran: list[str] = []
    actor = declare(broker, ran.append)
    first = actor.message("first")
    broker.enqueue(first, delay=1000)
    broker.enqueue(first.copy(args=("second",), options={"retries": 1}), delay=1200)
    assert counts(broker) == (0, 1, 0)
    run()
    assert ran == ["second"]


def test_a_delay_of_years_is_kept(broker: JetStreamBroker) -> None:
    broker.enqueue(job(), delay=3 * 365 * 86_400_000)
    assert counts(broker) == (0, 1, 0)


def test_an_eta_waits_and_never_reaches_the_workers_memory(broker: JetStreamBroker) -> None:
    eta = int(time.time() * 1000) + 400
    broker.enqueue(job(eta=eta))
    assert counts(broker) == (0, 1, 0)
    _, taken = take(broker)
    assert time.time() * 1000 >= eta - 20
    assert "eta" not in taken.options


def test_a_message_over_the_limit_is_refused_with_its_size(broker: JetStreamBroker) -> None:
    with pytest.raises(MessageTooLargeError, match=r"job has 9\d{5} bytes.*pass ids, not contents"):
        broker.enqueue(job("x" * 900_000))
    assert counts(broker) == (0, 0, 0)


def test_no_more_is_held_than_there_is_room_for(broker: JetStreamBroker) -> None:
    for number in range(8):
        broker.enqueue(job(number))
    consumer = broker.consume("default", prefetch=8, timeout=100)
    taken = [wait_until(lambda: next(consumer)) for _ in range(4)]  # options.prefetch
    assert next(consumer) is None
    consumer.ack(taken[0])
    assert wait_until(lambda: next(consumer)).args == (4,)


def test_a_closed_consumer_takes_nothing_until_a_new_one_is_opened(broker: JetStreamBroker) -> None:
    consumer = broker.consume("default", timeout=100)
    consumer.close()
    broker.enqueue(job())
    assert next(consumer) is None
    assert counts(broker) == (1, 0, 0)
    take(broker)


def test_close_can_be_repeated_and_what_is_stored_stays(broker: JetStreamBroker) -> None:
    broker.enqueue(job("kept"))
    broker.close()
    broker.close()
    consumer, taken = take(broker)
    assert taken.args == ("kept",)
    consumer.ack(taken)


@pytest.mark.parametrize("error", [BrokerConnectionError, PublishRefusedError])
def test_a_retry_that_could_not_be_stored_does_not_lose_its_message(
    broker: JetStreamBroker,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    ran: list[int] = []

    def flaky() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("try again")

    declare(broker, flaky).send()
    real, failures = broker.connection.publish, [1]

    def publish(sends: Sequence[Any]) -> list[Exception | None]:
        if failures:
            failures.pop()
            return [error("the server went away")]
        return real(sends)

    monkeypatch.setattr(broker.connection, "publish", publish)
    start_worker()
    broker.join("default", timeout=10_000)
    assert len(ran) == 2
    assert dead_letter.list_dead(broker) == []
