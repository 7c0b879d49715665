"""What our broker does beyond Dramatiq that needs processes; the rest is in tests/contract/broker."""

from __future__ import annotations

import os
import signal
import time

from brokers import JetStreamBroker, inspect
from tests.integration.broker.workers import Workers, message, wait_until


def test_the_jobs_of_a_killed_worker_are_taken_over_long_before_ack_wait(
    broker: JetStreamBroker, workers: Workers
) -> None:
    first = workers.start(threads=2)  # queue "other" has an ack_wait of 30 s
    for name in ("a", "b"):
        broker.enqueue(message("work_other", name, 20, queue="other"))
    wait_until(lambda: workers.count("start") == 2)
    workers.kill(first)
    workers.start(threads=2)
    wait_until(lambda: workers.count("start") == 4, 25)
    assert sum(depth.dead for depth in inspect.depths(broker)) == 0


def test_a_worker_that_only_hangs_is_not_taken_for_dead(broker: JetStreamBroker, workers: Workers) -> None:
    first = workers.start(threads=1)
    broker.enqueue(message("work_other", "a", 1, queue="other"))
    wait_until(lambda: workers.count("start") == 1)
    os.killpg(first.pid, signal.SIGSTOP)  # its connection lives, it says nothing
    try:
        workers.start(threads=1)
        time.sleep(5)
        assert workers.count("start") == 1
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    wait_until(lambda: workers.count("end") == 1)


def test_messages_that_wait_behind_long_jobs_are_given_back_for_others(
    broker: JetStreamBroker, workers: Workers
) -> None:
    workers.start(threads=2)
    broker.enqueue_many(message("work_other", f"short{n}", 0, queue="other") for n in range(300))
    wait_until(lambda: workers.count("end") == 300)  # many are held ahead now
    broker.enqueue_many(message("work_other", f"long{n}", 6, queue="other") for n in range(8))
    wait_until(lambda: workers.count("start") == 302)
    workers.start(threads=6)
    wait_until(lambda: workers.count("start") == 308, 5, "an idle worker takes what waits elsewhere")
    wait_until(lambda: workers.count("end") == 308)
    assert workers.count("start") == 308
