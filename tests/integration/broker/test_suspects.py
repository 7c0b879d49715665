"""What a process takes while it runs a message that may take it down."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from brokers import JetStreamBroker
from brokers.jetstream import consumer as intake_module
from tests.integration.broker.workers import StartWorker, declare, message, take, wait_until


class Running:
    """A suspect in the middle of its run, and the healthy jobs that ended."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self.healthy: list[int] = []

    def suspect(self) -> None:
        self.began.set()
        self.may_end.wait(30)


@pytest.fixture
def running(broker: JetStreamBroker, start_worker: StartWorker) -> Iterator[Running]:
    running = Running()
    declare(broker, running.suspect, actor_name="suspect")
    declare(broker, running.healthy.append, actor_name="healthy")
    broker.enqueue(message("suspect"))
    first, taken = take(broker)
    first.requeue([taken])
    first.close()
    start_worker(threads=4)
    assert running.began.wait(30)
    yield running
    running.may_end.set()


@pytest.mark.usefixtures("long_off")
def test_while_a_suspect_has_just_begun_its_process_asks_for_nothing_and_afterwards_it_does(
    broker: JetStreamBroker, running: Running
) -> None:
    pull = broker.running().intakes["quick"]._pull
    assert pull is not None
    assert not pull.is_open
    broker.enqueue(message("healthy", 1))
    assert broker.get_queue_message_counts("quick")[0] == 2
    assert running.healthy == []
    running.may_end.set()
    wait_until(lambda: running.healthy == [1])


@pytest.fixture
def long_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_OFF_SECONDS", 60.0)


def test_beside_a_suspect_that_runs_for_long_others_run(broker: JetStreamBroker, running: Running) -> None:
    broker.enqueue(message("healthy", 1))
    wait_until(lambda: running.healthy == [1])
    assert not running.may_end.is_set()
