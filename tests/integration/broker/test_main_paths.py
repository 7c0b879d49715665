from __future__ import annotations

import signal
from itertools import pairwise
from typing import Any

import pytest

from brokers import JetStreamBroker, dead_letter, inspect
from brokers.jetstream.connection import Session
from tests.integration.broker.workers import Workers, message, wait_until


def test_a_message_is_run_once_and_leaves_the_queue_empty(broker: JetStreamBroker, workers: Workers) -> None:
    workers.start()
    for number in range(20):
        broker.enqueue(message("work", f"job{number}"))
    broker.join("quick", timeout=10_000)
    assert all(workers.count("end", f"job{number}") == 1 for number in range(20))
    assert inspect.depths(broker)[0] == inspect.QueueDepth("quick", 0, 0, 0, 0)


def test_a_delayed_message_waits_at_the_server_and_runs_when_due(
    broker: JetStreamBroker, workers: Workers
) -> None:
    workers.start()
    broker.enqueue(message("work", "later"), delay=1000)
    assert inspect.depths(broker)[0].scheduled == 1
    assert workers.count("start", "later") == 0
    wait_until(lambda: workers.count("end", "later"))


def test_retries_follow_the_schedule(broker: JetStreamBroker, workers: Workers) -> None:
    workers.start()
    broker.enqueue(message("fail", "third", 4))
    wait_until(lambda: workers.count("end", "third"))
    times = [float(line[-1]) for line in workers.lines() if line[:2] == ("try", "third")]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    for gap, wanted in zip(gaps, (0.3, 0.6, 1.2), strict=True):
        assert wanted - 0.05 <= gap < wanted + 0.8
    assert dead_letter.list_dead(broker) == []


def test_after_the_fifth_attempt_a_message_is_dead_with_its_history(
    broker: JetStreamBroker, workers: Workers
) -> None:
    workers.start()
    sent = broker.enqueue(message("fail", "never", 99, traceparent="00-abc-def-01"))
    wait_until(lambda: workers.count("dead"))
    assert workers.count("try", "never") == 5
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.queue, letter.actor, letter.message_id) == ("quick", "fail", sent.message_id)
    assert letter.reason == "attempts-exhausted"
    assert letter.error_class == "RuntimeError"
    assert letter.error_message == "never fails in attempt 5: ümlaut\nand a second line"
    assert "in fail" in letter.trace
    assert [entry["attempt"] for entry in letter.attempts] == [1, 2, 3, 4, 5]
    assert all(entry["worker"] and entry["started_at"] <= entry["ended_at"] for entry in letter.attempts)
    assert (letter.origin_stream, letter.traceparent) == ("QUICK", "00-abc-def-01")
    assert letter.origin_sequence > 0
    wait_until(lambda: inspect.depths(broker)[0] == inspect.QueueDepth("quick", 0, 0, 0, 1))


def test_a_permanent_error_is_dead_at_once_and_a_cancelled_message_ends_quietly(
    broker: JetStreamBroker, workers: Workers
) -> None:
    workers.start()
    broker.enqueue(message("cancel", "stopped"))
    broker.enqueue(message("refuse", "bad"))
    wait_until(lambda: workers.count("dead", "permanent-error", "bad"))
    broker.join("quick", timeout=5000)
    assert workers.count("try", "bad") == workers.count("try", "stopped") == 1
    assert [letter.reason for letter in dead_letter.list_dead(broker)] == ["permanent-error"]


def test_a_killed_workers_message_is_redelivered_and_done(broker: JetStreamBroker, workers: Workers) -> None:
    first = workers.start(threads=1)
    broker.enqueue(message("work", "long", 4))
    wait_until(lambda: workers.count("start", "long"))
    workers.kill(first)
    assert workers.count("end", "long") == 0
    workers.start(threads=1)
    wait_until(lambda: workers.count("end", "long"))
    broker.join("quick", timeout=5000)
    assert (workers.count("start", "long"), workers.count("end", "long")) == (2, 1)


def test_heartbeats_keep_a_job_that_outlasts_ack_wait(broker: JetStreamBroker, workers: Workers) -> None:
    workers.start(threads=1, prefetch=2)
    broker.enqueue(message("work", "patient", 4))  # ack_wait is 1.5 s
    broker.enqueue(message("work", "prefetched-behind-it", 0))
    wait_until(lambda: inspect.depths(broker)[0].in_flight == 2)
    workers.start(threads=1)  # would be given both
    wait_until(lambda: workers.count("end", "prefetched-behind-it"))
    broker.join("quick", timeout=5000)
    assert workers.count("start", "patient") == workers.count("start", "prefetched-behind-it") == 1


def test_a_message_that_kills_its_worker_is_dead_after_three_deaths_while_others_go_on(
    broker: JetStreamBroker, workers: Workers
) -> None:
    worker = workers.start(threads=2)
    broker.enqueue(message("poison", "venom"))
    for number in range(30):
        broker.enqueue(message("work", f"healthy{number}", 0.3))

    def done() -> bool:
        nonlocal worker
        if worker.poll() is not None:  # the supervisor's part: start it again
            worker = workers.start(threads=2)
        return workers.count("dead", "crash-loop", "venom") == 1

    wait_until(done, 40)
    broker.join("quick", timeout=20_000)
    assert workers.count("start", "venom") == 3
    assert all(workers.count("end", f"healthy{number}") >= 1 for number in range(30))
    (letter,) = dead_letter.list_dead(broker)
    assert letter.reason == "crash-loop"
    assert "3 runs started and never ended" in letter.error_message


def test_sigterm_hands_unstarted_messages_back_at_once_and_burns_no_attempt(
    broker: JetStreamBroker, workers: Workers
) -> None:
    first = workers.start(threads=1, prefetch=6, grace_ms=60_000)
    broker.enqueue(message("hold", "running"))
    wait_until(lambda: workers.count("start", "running"))
    for number in range(5):
        broker.enqueue(message("work", f"waiting{number}"))
    wait_until(lambda: inspect.depths(broker)[0].in_flight == 6)
    workers.start(threads=1)
    first.send_signal(signal.SIGTERM)
    wait_until(lambda: all(workers.count("end", f"waiting{n}") == 1 for n in range(5)), 30)
    assert workers.count("end", "running") == 0
    workers.history.with_name("running").touch()
    assert first.wait(30) == 0
    broker.join("quick", timeout=30_000)
    assert workers.count("start", "running") == workers.count("end", "running") == 1
    assert dead_letter.list_dead(broker) == []


def test_a_job_that_outlives_the_grace_period_returns_without_losing_an_attempt(
    broker: JetStreamBroker, workers: Workers
) -> None:
    worker = workers.start(threads=1, grace_ms=100)
    broker.enqueue(message("work_other", "endless", 3.5, queue="other"))
    wait_until(lambda: workers.count("start", "endless") == 1)
    workers.start(threads=1)
    workers.terminate(worker)
    assert workers.count("end", "endless") == 0
    wait_until(lambda: workers.count("start", "endless") == 2, 25)  # ack_wait of this queue is 30 s
    wait_until(lambda: workers.count("end", "endless"))
    broker.join("other", timeout=5000)
    assert dead_letter.list_dead(broker) == []


def test_under_gevent_a_greenlet_that_never_yields_keeps_its_message(
    broker: JetStreamBroker, workers: Workers
) -> None:
    workers.start(threads=4, program="dramatiq-gevent")
    for number in range(50):
        broker.enqueue(message("work", f"green{number}"))
    broker.join("quick", timeout=5000)
    broker.enqueue(message("spin", "greedy", 3))  # ack_wait is 1.5 s
    wait_until(lambda: workers.count("start", "greedy"))
    workers.start(threads=1)  # would be given it
    wait_until(lambda: workers.count("end", "greedy"))
    broker.join("quick", timeout=5000)
    assert workers.count("start", "greedy") == 1
    assert all(workers.count("end", f"green{number}") == 1 for number in range(50))


def test_a_depth_counts_what_the_consumer_has_not_yet_heard_of(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Session.api

    async def as_before(self: Session, subject: str, *more: Any, **other: Any) -> dict[str, Any]:
        info = await api(self, subject, *more, **other)
        return {**info, "num_pending": 0} if subject.startswith("CONSUMER.INFO.") else info

    monkeypatch.setattr(Session, "api", as_before)
    broker.enqueue(message("work"))
    assert broker.get_queue_message_counts("quick") == (1, 0, 0)
