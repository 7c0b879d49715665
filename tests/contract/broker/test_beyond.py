"""What our broker does beyond Dramatiq, the same on the stub twin, one server and a cluster."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import QueueNotFound

from brokers import (
    DeadReason,
    JetStreamBroker,
    NotScheduledError,
    NotUniqueError,
    PublishRefusedError,
    control,
    dead_letter,
    recurring,
)
from tests.contract.broker.harness import StartWorker, counts, declare, only_ours, publish_raw, race, take
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def job(actor: str, *args: Any, **options: Any) -> dramatiq.Message[Any]:
    return message(actor, *args, queue="default", **options)


class Recorder(dramatiq.Middleware):
    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def before_process_message(self, broker: Any, message: Any) -> None:
        self.ids.append(message.message_id)


def later_ms(seconds: float) -> int:
    return int((time.time() + seconds) * 1000)


def test_ten_thousand_messages_are_stored_in_order_by_one_call(broker: JetStreamBroker) -> None:
    sent = broker.enqueue_many(job("work", number) for number in range(10_000))
    assert counts(broker) == (10_000, 0, 0)
    for expected in sent[:3]:
        consumer, found = take(broker)
        assert found.message_id == expected.message_id
        consumer.ack(found)


def test_enqueueing_many_again_stores_nothing_twice(broker: JetStreamBroker) -> None:
    messages = [job("work", number) for number in range(50)]
    broker.enqueue_many(messages)
    broker.enqueue_many(messages)
    assert counts(broker) == (50, 0, 0)


def test_many_delayed_messages_wait_at_the_server(broker: JetStreamBroker) -> None:
    broker.enqueue_many([job("work", number) for number in range(200)], delay=3_600_000)
    assert counts(broker) == (0, 200, 0)


def test_of_many_racing_producers_of_a_unique_message_one_gets_in(broker: JetStreamBroker) -> None:
    stored, refused = race(broker, lambda: job("work", "one", unique_key="report:7"), times=10)
    assert len(stored) == 1
    assert len(refused) == 199
    assert set(refused) == set(stored)
    assert counts(broker) == (1, 0, 0)


def test_a_unique_key_is_free_again_when_its_message_is_done(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("the first attempt fails")

    actor = declare(broker, job, min_backoff=600, max_backoff=600)
    first = actor.send_with_options(unique_key="k")
    start_worker()
    wait_until(lambda: len(tries) == 1)
    with pytest.raises(NotUniqueError, match=first.message_id):  # a retry keeps the key
        actor.send_with_options(unique_key="k")
    wait_until(lambda: len(tries) == 2)
    broker.join("default", timeout=5000)
    wait_until(lambda: actor.send_with_options(unique_key="k"), what="the key is free")


def test_a_dead_letter_frees_its_unique_key(broker: JetStreamBroker, start_worker: StartWorker) -> None:
    def job() -> None:
        raise RuntimeError("always")

    actor = declare(broker, job, max_retries=0)
    actor.send_with_options(unique_key="k")
    start_worker()
    wait_until(lambda: counts(broker) == (0, 0, 1))
    actor.send_with_options(unique_key="k")


def test_a_message_past_its_deadline_is_a_dead_letter_and_never_runs(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    tries: list[int] = []
    actor = declare(broker, lambda: tries.append(1))
    actor.send_with_options(deadline=later_ms(-1))
    actor.send_with_options(deadline=later_ms(60))
    start_worker()
    wait_until(lambda: counts(broker) == (0, 0, 1))
    assert tries == [1]
    assert dead_letter.list_dead(broker)[0].reason == DeadReason.EXPIRED


def test_a_retry_that_would_come_after_the_deadline_is_not_made(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise RuntimeError("always")

    declare(broker, job, min_backoff=3_600_000, max_backoff=7_200_000).send_with_options(
        deadline=later_ms(60)
    )
    start_worker()
    wait_until(lambda: counts(broker) == (0, 0, 1))
    (letter,) = dead_letter.list_dead(broker)
    assert (tries, letter.reason, len(letter.attempts)) == ([1], DeadReason.EXPIRED, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("deadline", "soon"), ("deadline", True), ("unique_key", ""), ("unique_key", 7)]
)
def test_an_option_of_the_wrong_type_is_refused_by_name(
    broker: JetStreamBroker, name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=name):
        broker.enqueue(job("work", **{name: value}))


def test_a_message_of_a_newer_format_is_a_dead_letter_with_its_own_reason(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    declare(broker, lambda: None, actor_name="work")
    publish_raw(broker, job("work").encode(), {"Dramatiq-Format": "2"})
    start_worker()
    wait_until(lambda: counts(broker) == (0, 0, 1))
    (letter,) = dead_letter.list_dead(broker)
    assert letter.reason == DeadReason.FUTURE_VERSION
    assert "upgrade" in letter.error_message


def test_what_is_run_now_runs_once_and_not_again_at_its_time(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    runs: list[int] = []
    actor = declare(broker, runs.append)
    sent = actor.send_with_options(args=(1,), delay=600_000)
    start_worker()
    control.run_now(broker, "default", sent.message_id)
    wait_until(lambda: runs == [1])
    with pytest.raises(NotScheduledError, match=sent.message_id):
        control.run_now(broker, "default", sent.message_id)
    broker.join("default", timeout=20_000)  # nothing waits for its time any more
    assert runs == [1]


def test_a_cancelled_unique_message_frees_its_key(broker: JetStreamBroker) -> None:
    sent = broker.enqueue(job("work", unique_key="k"), delay=60_000)
    control.cancel(broker, "default", sent.message_id)
    broker.enqueue(job("work", unique_key="k"))
    with pytest.raises(NotScheduledError):
        control.cancel(broker, "default", sent.message_id)


def test_a_paused_queue_hands_out_nothing_until_its_deadline(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    runs: list[float] = []
    actor = declare(broker, lambda: runs.append(time.time()))
    start_worker()
    until = datetime.now(UTC) + timedelta(seconds=2.0)
    assert control.pause(broker, "default", until) == until
    actor.send()
    told = control.paused_until(broker, "default")
    assert told is not None
    assert abs(told - until) < timedelta(seconds=2.0)
    wait_until(lambda: runs)
    assert runs[0] >= until.timestamp()
    assert control.paused_until(broker, "default") is None


def test_a_pause_is_ended_early(broker: JetStreamBroker) -> None:
    control.pause(broker, "default", datetime.now(UTC) + timedelta(hours=1))
    broker.enqueue(job("work"))
    assert next(broker.consume("default", timeout=200)) is None
    control.resume(broker, "default")
    assert take(broker)[1].actor_name == "work"


@pytest.mark.parametrize("until", [datetime.now(UTC) - timedelta(seconds=1), datetime.max])  # noqa: DTZ901
def test_a_pause_must_end_in_the_future_in_a_time_zone(broker: JetStreamBroker, until: datetime) -> None:
    with pytest.raises(ValueError, match="until"):
        control.pause(broker, "default", until)


def test_a_recurring_message_runs_again_and_again_under_ids_of_its_own(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    runs: list[str] = []
    declare(broker, lambda: None, actor_name="tick")
    broker.add_middleware(Recorder(runs))
    recurring.schedule_every(broker, "clock", job("tick"), timedelta(seconds=1))
    recurring.schedule_every(broker, "clock", job("tick"), timedelta(seconds=1))  # replaces itself
    start_worker()
    wait_until(lambda: len(runs) >= 3)
    assert len(set(runs)) == len(runs)
    (schedule,) = recurring.schedules(broker, "default")
    assert (schedule.name, schedule.when, schedule.actor) == ("clock", "@every 1s", "tick")
    assert recurring.unschedule(broker, "default", "clock") is True
    assert recurring.unschedule(broker, "default", "clock") is False
    assert recurring.schedules(broker, "default") == []


def test_a_cron_schedule_keeps_its_time_zone(broker: JetStreamBroker) -> None:
    recurring.schedule_cron(broker, "nightly", job("tick"), "30 3 * * *", "Europe/Berlin")
    recurring.schedule_cron(broker, "often", job("tick"), "*/10 * * * * *")
    nightly, often = recurring.schedules(broker, "default")
    assert (nightly.when, nightly.time_zone) == ("0 30 3 * * *", "Europe/Berlin")
    assert (often.when, often.time_zone) == ("*/10 * * * * *", None)


@pytest.mark.parametrize(
    ("cron", "zone", "named"),
    [("* * *", None, "cron"), ("* * * * *", "Berlin", "time_zone"), ("x * * * *", None, "pattern")],
)
def test_a_schedule_that_cannot_be_is_refused(
    broker: JetStreamBroker, cron: str, zone: str | None, named: str
) -> None:
    with pytest.raises((ValueError, PublishRefusedError), match=named):
        recurring.schedule_cron(broker, "bad", job("tick"), cron, zone)


def test_control_of_a_queue_that_is_not_there_says_so(broker: JetStreamBroker) -> None:
    with pytest.raises(QueueNotFound):
        control.pause(broker, "elsewhere", datetime.now(UTC) + timedelta(hours=1))
