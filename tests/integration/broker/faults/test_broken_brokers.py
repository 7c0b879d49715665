"""Each broken broker is caught where the real one, put through the same, is not."""

from __future__ import annotations

import time

import pytest

from tests.integration.broker.faults.checker import Report, Verdict
from tests.integration.broker.faults.history import Kind
from tests.integration.broker.faults.processes import Processes
from tests.integration.broker.faults.proxy import Mode, TcpProxy
from tests.integration.broker.server import NatsServer

_OUTAGE_SECONDS = 4.0  # longer than an enqueue tries


def counts(report: Report) -> dict[str, int]:
    """The verdicts that occur, without those that are fine."""
    fine = {Verdict.DONE_ONCE, Verdict.DEAD, Verdict.NOT_STORED}
    return {str(v): report.count(v) for v in Verdict if v not in fine and report.count(v)}


@pytest.mark.parametrize("broker", ["", "AcksBeforeRunning"])
def test_acks_before_the_run_are_found_out_by_killing_the_worker(processes: Processes, broker: str) -> None:
    processes.finished(processes.producer(8, seconds=0.5, mixed=False))
    worker = processes.worker(broker=broker)
    processes.wait_for(Kind.START, 1)
    processes.kill(worker)
    processes.worker(broker=broker)
    report = processes.drained()
    assert set(counts(report)) == ({"lost"} if broker else set())


@pytest.mark.parametrize("broker", ["", "DoesNotWaitForConfirmation"])
def test_enqueues_without_confirmation_are_found_out_by_killing_the_server(
    processes: Processes, server: NatsServer, broker: str
) -> None:
    producer = processes.producer(200, rate=100, mixed=False, broker=broker)
    processes.wait_for(Kind.STORED, 50)
    server.kill()
    time.sleep(_OUTAGE_SECONDS)
    server.start()
    processes.finished(producer)
    processes.worker()
    report = processes.drained()
    assert set(counts(report)) == ({"lost"} if broker else set())


@pytest.mark.parametrize(
    ("broker", "expected"),
    [
        ("", {}),
        ("ForgetsDeadLetters", {"lost": 1}),  # number 0 of 50
        ("SwallowsRetries", {"lost": 5}),  # numbers 0, 10, 20, 30, 40
        ("RenamesRetries", {"lost": 5, "unknown": 5}),
    ],
)
def test_broken_workers_are_found_out_without_any_fault(
    processes: Processes, broker: str, expected: dict[str, int]
) -> None:
    processes.worker(broker=broker)
    processes.finished(processes.producer(50))
    report = processes.drained()
    assert counts(report) == expected
    assert broker or report.count(Verdict.DEAD) == 1


def test_a_worker_that_runs_what_it_was_not_given_is_found_out(processes: Processes) -> None:
    processes.worker(broker="RunsWhatItWasNotGiven")
    processes.finished(processes.producer(50))
    report = processes.drained()
    assert report.count(Verdict.UNKNOWN)
    assert "was given it once and ran it 2 times" in str(report)


@pytest.mark.parametrize("broker", ["", "DropsTheMessageId"])
def test_a_resend_under_no_id_is_found_out_by_a_partition(
    processes: Processes, proxy: TcpProxy, broker: str
) -> None:
    producer = processes.producer(200, rate=100, mixed=False, url=proxy.url, broker=broker)
    processes.wait_for(Kind.STORED, 20)
    proxy.set(Mode.DROP)
    processes.wait_for(Kind.REFUSED, 2)
    proxy.set(Mode.PASS)
    processes.finished(producer)
    processes.worker()
    report = processes.drained()
    assert set(counts(report)) == ({"done more"} if broker else set())
