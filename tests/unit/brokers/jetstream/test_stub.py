"""What only the stub twin has: a clock of its own, no server, and an outage at will."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionFailed, QueueNotFound

from brokers import (
    BrokerOptions,
    JetStreamResultBackend,
    JetStreamStubBroker,
    NotUniqueError,
    PublishRefusedError,
    QueueSpec,
    control,
    dead_letter,
    inspect,
    publish_event,
    recurring,
    topology,
)
from brokers.jetstream import kv
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


def test_a_recurring_schedule_sends_one_message_for_each_of_its_times(
    broker: JetStreamStubBroker, work: Callable[[], None]
) -> None:
    ran: list[int] = []
    message = declare(broker, lambda: ran.append(1)).message()
    recurring.schedule_every(broker, "hourly", message, timedelta(hours=1))
    broker.advance(3599)
    work()
    assert ran == []
    broker.advance(DAY_SECONDS)
    work()
    assert len(ran) == 24
    recurring.unschedule(broker, "default", "hourly")
    broker.advance(DAY_SECONDS)
    work()
    assert len(ran) == 24


def test_a_pause_ends_by_its_clock(broker: JetStreamStubBroker) -> None:
    control.pause(broker, "default", datetime.now(UTC) + timedelta(hours=1))
    declare(broker, lambda: None).send()
    consumer = broker.consume("default", timeout=20)
    broker.advance(3500)
    assert next(consumer) is None
    broker.advance(100)
    assert control.paused_until(broker, "default") is None
    assert next(consumer) is not None


def test_a_deadline_passes_by_its_clock(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda: None)
    job.send_with_options(deadline=int(time.time() * 1000) + 60_000)
    broker.advance(61)
    assert next(broker.consume("default", timeout=20)) is None
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.error_class) == ("expired", "brokers.jetstream.errors.DeadlineError")


def test_what_was_sent_after_the_clock_was_put_forward_still_waits_for_its_delay(
    broker: JetStreamStubBroker,
) -> None:
    broker.advance(7 * DAY_SECONDS)
    sent = declare(broker, lambda: None).send_with_options(delay=60_000)
    assert broker.get_queue_message_counts("default") == (0, 1, 0)
    control.run_now(broker, "default", sent.message_id)
    assert broker.get_queue_message_counts("default") == (1, 0, 0)


def test_a_dead_letter_expires_by_its_clock_and_leaves_a_record(broker: JetStreamStubBroker) -> None:
    broker.publish_raw("default", b"bad")
    assert next(broker.consume("default", timeout=20)) is None
    (letter,) = dead_letter.list_dead(broker)
    broker.advance(31 * DAY_SECONDS)
    assert dead_letter.list_dead(broker) == []
    (ended,) = dead_letter.list_ended(broker)
    assert (ended.id, ended.outcome, ended.reason) == (letter.id, "expired", "undecodable")


def test_messages_end_by_age_unless_they_wait_for_their_time(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda: None)
    job.send()
    job.send_with_options(delay=30 * DAY_SECONDS * 1000)
    broker.advance(8 * DAY_SECONDS)
    assert broker.get_queue_message_counts("default") == (0, 1, 0)
    broker.join("other", timeout=100)


def test_while_it_is_away_dead_letters_and_control_say_so(broker: JetStreamStubBroker) -> None:
    broker.away = True
    for operation in (dead_letter.list_dead, inspect.ping):
        with pytest.raises(ConnectionFailed):
            operation(broker)
    with pytest.raises(ConnectionFailed):
        control.resume(broker, "default")
    with pytest.raises(ConnectionFailed):
        publish_event(broker, "transforms.status.x", b"", confirm=True)
    publish_event(broker, "transforms.status.x", b"")  # is dropped


def test_a_unique_key_is_kept_while_the_key_cannot_be_freed(broker: JetStreamStubBroker) -> None:
    job = declare(broker, lambda: None)
    job.send_with_options(unique_key="k")
    consumer = broker.consume("default", timeout=20)
    taken = next(consumer)
    assert taken is not None
    broker.away = True
    consumer.ack(taken)
    wait_until(lambda: not broker.memory.held())
    broker.away = False
    with pytest.raises(NotUniqueError, match=taken.message_id):
        job.send_with_options(unique_key="k")
    broker.advance(60)  # hand_back_seconds
    again = next(consumer)
    assert again is not None
    consumer.ack(again)
    broker.join("default", timeout=5000)
    job.send_with_options(unique_key="k")


def test_a_race_lost_while_a_cluster_replicates_the_winner_is_told_as_such(
    broker: JetStreamStubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = declare(broker, lambda: None)
    first = job.send_with_options(unique_key="k")
    refused = PublishRefusedError("wrong last sequence")
    refused.code = 10164
    monkeypatch.setattr(broker.connection, "publish", lambda _: [refused])
    with pytest.raises(NotUniqueError, match=first.message_id):
        job.send_with_options(unique_key="k")


def test_who_waits_for_a_result_hears_of_it(
    broker: JetStreamStubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv, "_FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(kv, "_LONGEST_PAUSE_SECONDS", 60.0)
    backend, message = JetStreamResultBackend(broker), declare(broker, lambda: None).message()
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.append(backend.get_result(message, block=True, timeout=20_000))
    )
    waiting.start()
    wait_until(lambda: broker.memory.listeners)
    time.sleep(0.1)  # it has looked once, and sleeps
    backend.store_result(message, 7, 60_000)
    waiting.join(10)
    assert found == [7]
