"""What operators see of queues and workers: stub twin, one server, a cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dramatiq

from brokers import JetStreamBroker, JetStreamStubBroker, control, survey
from brokers.jetstream.message import worker_name
from tests.contract.broker.harness import StartWorker, only_ours
from tests.integration.broker.workers import message, wait_until

pytestmark = only_ours


def of(broker: JetStreamBroker, queue: str) -> survey.QueueSurvey:
    return next(one for one in survey.queues(broker) if one.queue == queue)


def test_a_queue_tells_what_waits_and_since_when(broker: JetStreamBroker) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=1)
    assert of(broker, "default").oldest_ready is None
    for _ in range(3):
        broker.enqueue(message("work", queue="default"))
    broker.enqueue(message("work", queue="default"), delay=3_600_000)
    seen = of(broker, "default")
    assert (seen.ready, seen.scheduled, seen.in_flight, seen.redelivered, seen.dead) == (3, 1, 0, 0, 0)
    assert seen.oldest_ready is not None
    assert begin < seen.oldest_ready < datetime.now(UTC) + timedelta(minutes=1)
    assert seen.paused_until is None


def test_a_pause_is_told_with_its_end(broker: JetStreamBroker) -> None:
    until = control.pause(broker, "default", datetime.now(UTC) + timedelta(hours=1))
    wait_until(lambda: of(broker, "default").paused_until is not None)  # a cluster agrees on it first
    seen = of(broker, "default").paused_until
    assert seen is not None
    assert abs(seen - until) < timedelta(minutes=1)
    control.resume(broker, "default")
    wait_until(lambda: of(broker, "default").paused_until is None)


def test_workers_are_named_with_their_threads_while_they_are_there(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    def at_work() -> list[survey.WorkerSeen]:
        return [one for one in survey.workers(broker) if one.queue == "default"]

    dramatiq.actor(actor_name="work", broker=broker, queue_name="default")(lambda: None)
    assert at_work() == []
    worker = start_worker(3)
    if isinstance(broker, JetStreamStubBroker):  # knows one process, which keeps no roster
        return
    wait_until(lambda: bool(at_work()))
    assert [(one.name, one.threads, one.holds) for one in at_work()] == [(worker_name(), 3, 0)]
    worker.stop(timeout=2000)
    wait_until(lambda: not at_work())
