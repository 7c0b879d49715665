"""Retries: Dramatiq's options and our schedule, every broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker

from brokers import BrokerOptions, JetStreamBroker, JetStreamStubBroker, ScheduledRetries, dead_letter
from tests.contract.broker.harness import QUEUES, Run, declare, only_ours
from tests.integration.broker.workers import message


class Failing:
    """A job that raises `error()` in its first `times` runs (None: in all)."""

    def __init__(self, error: Callable[[], BaseException], times: int | None = None) -> None:
        self.error, self.times = error, times
        self.runs: list[float] = []

    def __call__(self) -> None:
        self.runs.append(time.monotonic())
        if self.times is None or len(self.runs) <= self.times:
            raise self.error()


def always() -> BaseException:
    return RuntimeError("always")


def test_a_message_that_fails_is_tried_again_until_it_succeeds(broker: Broker, run: Run) -> None:
    job = Failing(always, times=3)
    declare(broker, job).send()
    run()
    assert len(job.runs) == 4


def test_there_are_five_attempts_in_all_unless_something_else_is_said(broker: Broker, run: Run) -> None:
    job = Failing(always)
    declare(broker, job).send()
    run()
    assert len(job.runs) == 5


@pytest.mark.parametrize("most", [0, 1, 2])
def test_max_retries_bounds_the_attempts(broker: Broker, run: Run, most: int) -> None:
    job = Failing(always)
    declare(broker, job, max_retries=most).send()
    run()
    assert len(job.runs) == most + 1


def test_max_retries_of_a_message_comes_before_its_actors(broker: Broker, run: Run) -> None:
    job = Failing(always)
    declare(broker, job, max_retries=4).send_with_options(max_retries=1)
    run()
    assert len(job.runs) == 2


def test_retry_when_decides_alone(broker: Broker, run: Run) -> None:
    tries: list[int] = []

    def job() -> None:
        tries.append(1)
        raise KeyError("k") if len(tries) < 7 else ValueError("v")

    declare(broker, job, retry_when=lambda _, error: isinstance(error, KeyError)).send()
    run()
    assert len(tries) == 7


def test_what_is_in_throws_is_not_retried(broker: Broker, run: Run) -> None:
    job = Failing(lambda: KeyError("k"))
    declare(broker, job, throws=(KeyError,)).send()
    run()
    assert len(job.runs) == 1


def test_a_retry_with_its_own_delay_is_not_an_error(broker: Broker, run: Run) -> None:
    job = Failing(lambda: dramatiq.Retry("later", delay=300), times=1)
    declare(broker, job).send()
    run()
    first, second = job.runs
    assert second - first >= 0.28


def test_min_and_max_backoff_bring_back_dramatiqs_own_backoff(broker: Broker, run: Run) -> None:
    job = Failing(always)
    declare(broker, job, max_retries=2, min_backoff=200, max_backoff=400).send()
    run()
    first, second, third = job.runs
    assert second - first >= 0.18
    assert third - second >= 0.18


def test_an_exhausted_message_is_told_to_its_actor(broker: Broker, run: Run) -> None:
    told: list[Any] = []
    declare(broker, lambda data, limits: told.append((data["args"], limits)), actor_name="exhausted")

    def job(word: str) -> None:
        raise RuntimeError(word)

    declare(broker, job, max_retries=1, on_retry_exhausted="exhausted").send("never")
    run()
    run()
    assert [(list(args), limits) for args, limits in told] == [
        (["never"], {"retries": 1, "max_retries": 1}),
    ]


def test_the_schedule_is_30_60_120_300_seconds_and_an_error_can_ask_for_more() -> None:
    retries = ScheduledRetries(BrokerOptions())
    actor: Any = dramatiq.Actor(
        lambda: None,
        broker=JetStreamStubBroker(BrokerOptions(), QUEUES),
        actor_name="job",
        queue_name="default",
        priority=0,
        options={},
    )
    patient = RuntimeError("429")
    patient.retry_after_seconds = 90  # type: ignore[attr-defined]  # what an app's own errors carry
    delays = [retries._delay_ms(actor.message(), actor, number, RuntimeError()) for number in range(6)]
    assert delays == [30_000, 60_000, 120_000, 300_000, 300_000, 300_000]
    assert retries._delay_ms(actor.message(), actor, 0, patient) == 90_000
    assert retries._delay_ms(actor.message(), actor, 3, patient) == 300_000


@only_ours
def test_an_error_of_no_dead_letter_ends_its_message_quietly(broker: JetStreamBroker, run: Run) -> None:
    job = Failing(lambda: KeyError("cancelled"))
    declare(broker, job, no_dead_letter=(KeyError,)).send()
    run()
    assert len(job.runs) == 1
    assert dead_letter.list_dead(broker) == []


@only_ours
@pytest.mark.parametrize(
    "options",
    [{"retries": "many"}, {"retries": -3}, {"max_retries": "x"}, {"min_backoff": "x"}, {"attempts": "none"}],
)
def test_options_of_the_wrong_type_cost_attempts_but_never_the_message(
    broker: JetStreamBroker, run: Run, options: dict[str, Any]
) -> None:
    declare(broker, Failing(always), max_retries=1)
    sent = broker.enqueue(message("job", queue="default", **options))
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.message_id, letter.error_message) == (sent.message_id, "always")


@only_ours
def test_a_predicate_that_fails_itself_does_not_lose_the_message(broker: JetStreamBroker, run: Run) -> None:
    def broken(retries: int, error: BaseException) -> bool:
        raise ZeroDivisionError

    declare(broker, Failing(always), retry_when=broken).send()
    run()
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.error_message, len(letter.attempts)) == ("rejected", "always", 1)
