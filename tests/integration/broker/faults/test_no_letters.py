"""While no dead letter can be stored, healthy jobs run; afterwards each dead message has one letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from brokers import JetStreamBroker, dead_letter, topology
from tests.integration.broker.faults.checker import Verdict
from tests.integration.broker.faults.history import Kind
from tests.integration.broker.faults.processes import Processes
from tests.integration.broker.faults.state import left
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until

_COUNT, _FAIL_ALWAYS, _LATE = 150, 150 // 50, 3
_STREAM = "DLQ_TRANSFORMS"


@contextmanager
def gone(broker: JetStreamBroker) -> Iterator[None]:
    session = broker.connection.session()
    broker.connection.run(session.api(f"STREAM.DELETE.{_STREAM}"))
    yield
    topology.apply(broker.options, QUEUES)


@contextmanager
def full(broker: JetStreamBroker) -> Iterator[None]:
    session = broker.connection.session()
    config = broker.connection.run(session.api(f"STREAM.INFO.{_STREAM}"))["config"]
    no_room = {**config, "max_bytes": 1, "discard": "new"}
    broker.connection.run(session.api(f"STREAM.UPDATE.{_STREAM}", no_room))
    yield
    broker.connection.run(session.api(f"STREAM.UPDATE.{_STREAM}", config))


def send_too_late(broker: JetStreamBroker, processes: Processes) -> None:
    """Messages that are dead when they arrive."""
    for _ in range(_LATE):
        sent = message("job", deadline=1)
        processes.history.write(Kind.ATTEMPTED, sent.message_id)
        broker.enqueue(sent)
        processes.history.write(Kind.STORED, sent.message_id)


@pytest.mark.parametrize("trouble", [gone, full])
def test_while_the_dead_letter_stream_takes_nothing_healthy_jobs_run_and_each_dead_one_gets_one_letter(
    processes: Processes, trouble: Callable[[JetStreamBroker], AbstractContextManager[None]]
) -> None:
    broker, dead = JetStreamBroker(make_options(processes.url), QUEUES), _FAIL_ALWAYS + _LATE
    with trouble(broker):
        send_too_late(broker, processes)
        processes.worker()
        processes.finished(processes.producer(_COUNT, rate=300))
        wait_until(lambda: left(processes.url) == dead, 60, "nothing but the dead waits")
        assert not processes.history.count(Kind.DEAD)
    report = processes.drained()
    assert report.bad == []
    assert report.count(Verdict.DEAD) == dead
    letters = dead_letter.list_dead(broker, 2 * dead)
    assert sorted(letter.reason for letter in letters) == sorted(
        ["attempts-exhausted"] * _FAIL_ALWAYS + ["expired"] * _LATE
    )
    broker.close()
