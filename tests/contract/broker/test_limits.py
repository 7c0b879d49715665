"""Limits of time, age and rate, and the end of a worker: every broker."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from dramatiq.rate_limits import ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.rate_limits.backends import StubBackend

from brokers import JetStreamBroker, dead_letter
from tests.contract.broker.harness import Run, StartWorker, can_be_taken_by_others, counts, declare, only_ours
from tests.integration.broker.workers import wait_until

HOUR_MS = 3_600_000


def interruptible(ended: list[str], error: type[BaseException]) -> Callable[[], None]:
    def job() -> None:
        pause, deadline = threading.Event(), time.monotonic() + 20
        try:
            while time.monotonic() < deadline:
                pause.wait(0.02)
        except error:
            ended.append("interrupted")
            raise

    return job


def test_a_job_over_its_time_limit_is_interrupted(broker: Broker, run: Run) -> None:
    ended: list[str] = []
    broker.emit_after("process_boot")
    job = interruptible(ended, TimeLimitExceeded)
    declare(broker, job, time_limit=100, max_retries=0).send()
    run()
    assert ended == ["interrupted"]


def test_a_message_over_its_age_is_skipped(broker: Broker, run: Run) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1), max_age=50).send_with_options(delay=200)
    run()
    assert ran == []


@pytest.mark.parametrize(
    ("offset_ms", "max_age", "runs"),
    [(HOUR_MS, None, 1), (-HOUR_MS, None, 1), (HOUR_MS, 60_000, 1), (-HOUR_MS, 60_000, 0)],
)
def test_a_senders_clock_an_hour_off_matters_to_the_age_limit_alone(
    broker: Broker,
    run: Run,
    caplog: pytest.LogCaptureFixture,
    offset_ms: int,
    max_age: int | None,
    runs: int,
) -> None:
    caplog.set_level(logging.INFO, "brokers")
    ran: list[int] = []
    declare(broker, lambda: ran.append(1), **({"max_age": max_age} if max_age else {}))
    stamp = int(time.time() * 1000) + offset_ms
    broker.enqueue(dramatiq.Message("default", "job", (), {}, {}, message_timestamp=stamp))
    run()
    assert len(ran) == runs
    if isinstance(broker, JetStreamBroker):
        clock = "the sender's clock is ahead" if offset_ms > 0 else "or the sender's clock is behind"
        (said,) = (text for text in caplog.messages if clock in text)
        assert re.search(r"was made (3599|36\d\d) s ", said)


def test_a_concurrent_rate_limiter_lets_one_at_a_time_through(broker: Broker, run: Run) -> None:
    limiter = ConcurrentRateLimiter(StubBackend(), "one", limit=1)  # type: ignore[no-untyped-call]
    inside, most, done = [0], [0], list[int]()

    def job(number: int) -> None:
        with limiter.acquire():
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.03)
            inside[0] -= 1
        done.append(number)

    actor = declare(broker, job, max_retries=500)
    for number in range(6):
        actor.send(number)
    run()
    assert (sorted(done), most[0]) == ([0, 1, 2, 3, 4, 5], 1)


def test_a_window_rate_limiter_refuses_what_is_too_much(broker: Broker, run: Run) -> None:
    limiter = WindowRateLimiter(StubBackend(), "window", limit=2, window=60)  # type: ignore[no-untyped-call]
    passed: list[bool] = []

    def job() -> None:
        with limiter.acquire(raise_on_failure=False) as acquired:
            passed.append(acquired)

    actor = declare(broker, job)
    for _ in range(5):
        actor.send()
    run()
    assert sorted(passed) == [False, False, False, True, True]


def test_a_job_that_wants_to_know_is_told_of_the_shutdown(broker: Broker, start_worker: StartWorker) -> None:
    ended: list[str] = []
    started = threading.Event()
    wait = interruptible(ended, Shutdown)

    def job() -> None:
        started.set()
        wait()

    declare(broker, job, notify_shutdown=True, max_retries=0).send()
    worker = start_worker()
    assert started.wait(30)
    worker.stop(timeout=10_000)
    assert ended == ["interrupted"]


@only_ours
def test_a_run_ended_by_the_shutdown_goes_back_and_costs_no_attempt(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    ended, started, attempts = list[str](), threading.Event(), list[Any]()
    wait = interruptible(ended, Shutdown)

    def job() -> None:
        if started.is_set():
            return
        started.set()
        wait()

    class Attempts(dramatiq.Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            attempts.append(message.attempt)

    broker.add_middleware(Attempts())
    declare(broker, job, notify_shutdown=True, max_retries=0).send()
    first = start_worker()
    assert started.wait(30)
    first.stop(timeout=10_000)
    start_worker()
    broker.join("default", timeout=10_000)
    assert (ended, attempts) == (["interrupted"], [0, 0])
    assert dead_letter.list_dead(broker) == []


@only_ours
def test_what_no_thread_has_started_goes_back_when_the_worker_stops(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    started, release, ran = threading.Event(), threading.Event(), list[int]()

    def job(number: int) -> None:
        ran.append(number)
        started.set()
        release.wait(20)

    actor = declare(broker, job)
    for number in range(3):
        actor.send(number)
    worker = start_worker(threads=1)
    wait_until(lambda: started.is_set() and worker.work_queue.qsize() == 2)
    stopping = threading.Thread(target=worker.stop, kwargs={"timeout": 20_000})
    stopping.start()
    assert can_be_taken_by_others(broker, besides=1) == 2  # while the first still runs
    release.set()
    stopping.join(20)
    wait_until(lambda: counts(broker) == (2, 0, 0))
    start_worker()  # ack_wait is 30 s: what was not given back would come too late
    broker.join("default", timeout=10_000)
    assert sorted(ran) == [0, 1, 2]


@only_ours
def test_a_job_that_outlives_its_worker_is_run_again_and_ends_once(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    started, release, ran = threading.Event(), threading.Event(), list[int]()

    def job() -> None:
        ran.append(1)
        if not started.is_set():
            started.set()
            release.wait(20)

    declare(broker, job).send()
    worker = start_worker(threads=1)
    assert started.wait(30)
    worker.stop(timeout=100)
    start_worker(threads=1)  # ack_wait is 30 s: what was not given back would come too late
    broker.join("default", timeout=10_000)
    release.set()
    for thread in worker.workers:
        thread.join(10)
    assert (ran, counts(broker)) == ([1, 1], (0, 0, 0))
