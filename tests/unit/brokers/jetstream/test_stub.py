"""What only the stub twin has: a clock of its own, no server, and an outage at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionFailed, QueueNotFound

from brokers import (
    BrokerOptions,
    JetStreamStubBroker,
    QueueSpec,
    dead_letter,
    inspect,
    topology,
)
from brokers.jetstream.memory_events import matches
from tests.integration.broker.workers import wait_until

DAY_SECONDS = 86_400
QUEUES = [QueueSpec(name="default", stream="S"), QueueSpec(name="other", stream="S")]


@pytest.fixture
def broker() -> JetStreamStubBroker:
    return JetStreamStubBroker(BrokerOptions(max_ack_pending=3, hand_back_seconds=60), QUEUES)


@pytest.fixture
def work(broker: JetStreamStubBroker) -> Iterator[Callable[[], None]]:
    """Run what is due now, and no more."""
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=20)
    worker.start()

    def until_nothing_is_ready() -> None:
        spec = broker.specs["default"]
        wait_until(lambda: not (depth := inspect.depth(broker, spec)).ready and not depth.in_flight)
        worker.join()

    yield until_nothing_is_ready
    worker.stop(timeout=1000)


def declare(broker: JetStreamStubBroker, function: Callable[..., Any], **options: Any) -> Any:
    decorate: Any = dramatiq.actor(broker=broker, **{"actor_name": "job", **options})
    return decorate(function)


def test_a_delay_of_a_week_is_over_when_the_clock_is_put_forward(
    broker: JetStreamStubBroker, work: Callable[[], None]
) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1)).send_with_options(delay=7 * DAY_SECONDS * 1000)
    broker.advance(7 * DAY_SECONDS - 60)
    work()
    assert (ran, broker.get_queue_message_counts("default")) == ([], (0, 1, 0))
    broker.advance(60)
    work()
    assert (ran, broker.get_queue_message_counts("default")) == ([1], (0, 0, 0))


def test_retries_come_after_30_60_120_and_300_seconds_of_its_clock(
    broker: JetStreamStubBroker, work: Callable[[], None]
) -> None:
    ran: list[int] = []

    def job() -> None:
        ran.append(1)
        raise RuntimeError("always")

    declare(broker, job).send()
    for number, pause in enumerate((30, 60, 120, 300), start=1):
        work()
        assert len(ran) == number
        broker.advance(pause - 20)
        work()
        assert len(ran) == number, "too early"
        broker.advance(20)
    work()
    assert [letter.reason for letter in dead_letter.list_dead(broker)] == ["attempts-exhausted"]


def test_an_id_can_be_stored_again_after_two_minutes(broker: JetStreamStubBroker) -> None:
    message = declare(broker, lambda: None).message()
    for pause in (0, 100, 30, 1):
        broker.advance(pause)
        broker.enqueue(message)
    assert broker.get_queue_message_counts("default")[0] == 2


def test_queues_of_one_stream_share_its_ids(broker: JetStreamStubBroker) -> None:
    message = declare(broker, lambda: None).message()
    broker.enqueue(message)
    broker.enqueue(message.copy(queue_name="other"))
    assert [one.ready for one in inspect.depths(broker)] == [1, 0]


def test_its_clock_does_not_go_back(broker: JetStreamStubBroker) -> None:
    with pytest.raises(ValueError, match="forward only"):
        broker.advance(-1)


def test_while_it_is_away_an_enqueue_fails_as_it_does_without_a_server(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda: None)
    broker.away = True
    with pytest.raises(ConnectionFailed, match="does not answer"):
        job.send()
    broker.away = False
    job.send()
    assert broker.get_queue_message_counts("default") == (1, 0, 0)


def test_a_retry_during_an_outage_hands_the_message_back(
    broker: JetStreamStubBroker, work: Callable[[], None]
) -> None:
    ran: list[int] = []

    def job() -> None:
        ran.append(1)
        if len(ran) == 1:
            broker.away = True
            raise RuntimeError("once")

    declare(broker, job).send()
    wait_until(lambda: ran and not broker.memory.held())
    broker.away = False
    assert broker.get_queue_message_counts("default") == (1, 0, 0)
    broker.advance(60)
    work()
    assert len(ran) == 2


def test_it_never_reaches_for_a_server(broker: JetStreamStubBroker) -> None:
    assert inspect.ping(broker) < 10
    session = broker.connection.session()
    with pytest.raises(NotImplementedError, match=r"has no server; ACCOUNT\.PURGE"):
        broker.connection.run(session.api("ACCOUNT.PURGE"))


def test_no_more_than_max_ack_pending_is_handed_out(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda: None)
    for _ in range(5):
        job.send()
    consumer = broker.consume("default", prefetch=10, timeout=20)
    taken = [next(consumer) for _ in range(4)]
    assert [one is not None for one in taken] == [True, True, True, False]


def test_what_was_given_back_comes_before_what_is_fresh(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda _: None)
    for number in range(3):
        job.send(number)
    consumer = broker.consume("default", prefetch=1, timeout=20)
    first = next(consumer)
    assert first is not None
    consumer.requeue([first])
    again = next(consumer)
    assert again is not None
    assert (again.args, again.delivery.redelivered) == ((0,), True)


def test_bytes_can_only_be_stored_in_a_queue_that_is_there(broker: JetStreamStubBroker) -> None:
    with pytest.raises(QueueNotFound):
        broker.publish_raw("nowhere", b"")


def test_dead_letters_say_where_their_message_came_from(broker: JetStreamStubBroker) -> None:
    broker.publish_raw("other", b"bad", {"traceparent": "00-1-2-01"})
    assert next(broker.consume("other", timeout=20)) is None
    (letter,) = dead_letter.list_dead(broker, queue="other")
    assert (letter.queue, letter.origin_stream, letter.traceparent) == ("other", "S", "00-1-2-01")
    assert topology.dead_subject(broker.options, letter.queue) == "transforms.dead.other"


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a.*", "a.b", True), ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True), ("a.>", "a", False), (">", "a", True), ("a.*.c", "a.b.c", True),
    ],
)  # fmt: skip
def test_its_events_are_followed_by_natss_wildcards(pattern: str, subject: str, *, covered: bool) -> None:
    assert matches(pattern, subject) is covered
