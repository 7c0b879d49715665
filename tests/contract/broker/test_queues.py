"""Queues and messages, in Dramatiq's words: every broker."""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker, Consumer, MessageProxy
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware, SkipMessage

from tests.contract.broker.harness import Run, StartWorker, declare
from tests.integration.broker.workers import message, wait_until


def take(broker: Broker) -> tuple[Consumer, MessageProxy]:
    consumer = broker.consume("default", prefetch=1, timeout=100)
    return consumer, wait_until(lambda: next(consumer))


def test_arguments_arrive_as_they_were_sent(broker: Broker, run: Run) -> None:
    seen: list[Any] = []
    job = declare(broker, lambda *args, **kwargs: seen.append((args, kwargs)))
    job.send(1, "zwei", [3], key={"four": None})
    run()
    assert seen == [((1, "zwei", [3]), {"key": {"four": None}})]


def test_a_queue_is_declared_once_however_often_it_is_asked_for(broker: Broker) -> None:
    declared: list[str] = []

    class Listener(Middleware):
        def after_declare_queue(self, broker: Any, queue_name: str) -> None:
            declared.append(queue_name)

    broker.add_middleware(Listener())
    broker.declare_queue("default")
    broker.declare_queue("default")
    assert declared == ["default"]
    assert "default" in broker.get_declared_queues()


def test_an_enqueue_to_a_queue_that_is_not_there_is_refused(broker: Broker) -> None:
    with pytest.raises(QueueNotFound, match="nowhere"):
        broker.enqueue(message("job", queue="nowhere"))


def test_a_queue_that_is_not_there_cannot_be_consumed(broker: Broker) -> None:
    with pytest.raises(QueueNotFound, match="nowhere"):
        broker.consume("nowhere")


def test_an_idle_consumer_returns_nothing_after_its_timeout(broker: Broker) -> None:
    broker.declare_queue("default")
    assert next(broker.consume("default", timeout=50)) is None


def test_an_acknowledged_message_is_gone(broker: Broker) -> None:
    sent = declare(broker, lambda: None).send()
    consumer, taken = take(broker)
    assert taken.message_id == sent.message_id
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=200)
    consumer.ack(taken)
    broker.join("default", timeout=10_000)
    assert next(consumer) is None


def test_a_rejected_message_is_gone_from_its_queue(broker: Broker) -> None:
    declare(broker, lambda: None).send()
    consumer, taken = take(broker)
    taken.fail()
    consumer.nack(taken)
    broker.join("default", timeout=10_000)
    assert next(consumer) is None


def test_a_join_gives_up_when_its_time_is_over(broker: Broker) -> None:
    job = declare(broker, lambda: None)
    job.send_with_options(delay=3_600_000)
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=200)


def test_a_delayed_message_runs_when_it_is_due_and_not_before(broker: Broker, run: Run) -> None:
    ran: list[float] = []
    job = declare(broker, lambda: ran.append(time.time()))
    run()
    sent = time.time()
    job.send_with_options(delay=400)
    run()
    assert len(ran) == 1
    assert ran[0] - sent >= 0.38


@pytest.mark.parametrize("delay", [0, -1, -3_600_000])
def test_a_delay_that_is_over_already_is_none(broker: Broker, run: Run, delay: int) -> None:
    ran: list[int] = []
    declare(broker, lambda: ran.append(1)).send_with_options(delay=delay)
    run()
    assert ran == [1]


def test_an_eta_in_the_past_runs_at_once(broker: Broker, run: Run) -> None:
    ran: list[int] = []
    job = declare(broker, lambda: ran.append(1))
    broker.enqueue(job.message_with_options(eta=int(time.time() * 1000) - 3_600_000))
    run()
    assert ran == [1]


def test_flush_all_drops_waiting_and_delayed_messages(broker: Broker, run: Run) -> None:
    ran: list[int] = []
    job = declare(broker, lambda: ran.append(1))
    job.send()
    job.send_with_options(delay=200)
    broker.flush_all()
    broker.join("default", timeout=5000)
    run()
    assert ran == []


def test_flush_drops_one_queue_only(broker: Broker, run: Run) -> None:
    ran: list[str] = []
    declare(broker, lambda: ran.append("default")).send()
    declare(broker, lambda: ran.append("other"), queue_name="other", actor_name="elsewhere").send()
    broker.flush("default")
    run()
    broker.join("other", timeout=10_000)
    assert ran == ["other"]


def test_a_waiting_message_of_higher_priority_starts_first(broker: Broker, start_worker: StartWorker) -> None:
    order: list[str] = []
    occupied, release = threading.Event(), threading.Event()

    def occupy() -> None:
        occupied.set()
        release.wait(20)

    blocker = declare(broker, occupy, actor_name="blocker")
    low = declare(broker, lambda: order.append("low"), actor_name="low", priority=10)
    high = declare(broker, lambda: order.append("high"), actor_name="high", priority=0)
    worker = start_worker(threads=1)
    blocker.send()
    assert occupied.wait(30)
    low.send()
    wait_until(lambda: worker.work_queue.qsize() == 1)
    high.send()
    wait_until(lambda: worker.work_queue.qsize() == 2)
    release.set()
    broker.join("default", timeout=10_000)
    assert order == ["high", "low"]


def test_a_skipped_message_leaves_the_queue(broker: Broker, run: Run) -> None:
    class Skip(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise SkipMessage("not today")

    ran: list[int] = []
    broker.add_middleware(Skip())
    declare(broker, lambda: ran.append(1)).send()
    run()
    assert ran == []


def test_a_paused_worker_takes_up_its_work_again(
    broker: Broker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.05)
    ran: list[int] = []
    job = declare(broker, ran.append)
    worker = start_worker()
    worker.pause()
    job.send(1)
    time.sleep(0.2)
    assert ran == []
    worker.resume()
    wait_until(lambda: ran == [1])
