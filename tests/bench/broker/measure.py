"""What is measured of one system in one round."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.broker.figures import Round, lost_and_doubled, percentile
from tests.bench.broker.processes import cpu_seconds
from tests.bench.broker.session import Sent, Session
from tests.bench.broker.systems import System
from tests.bench.broker.workers import ROOT, Workers

_DRAIN_SECONDS, _NO_PROGRESS_SECONDS, _QUIET_SECONDS = 90.0, 15.0, 0.25
_DELAYED, _DELAYED_SECONDS = ("ours-r1", "redis"), 60.0
_LONG_LEASE_SECONDS, _SHORT_LEASE_SECONDS = 60.0, 5.0


@dataclass(frozen=True)
class Plan:
    """How much of everything; seconds and numbers of jobs."""

    rounds: int = 5
    enqueue_seconds: float = 0.8
    most_enqueued: int = 6_000
    batch: int = 10_000
    sleep_jobs: int = 600  # per worker process
    cpu_jobs: int = 60  # per worker process
    latency_seconds: float = 2.0
    common_rate: float = 200.0
    brisk_rate: float = 2_000.0
    idle_seconds: float = 2.0
    floor_seconds: float = 0.5
    delayed_jobs: int = 100_000  # measured in the first round
    fault_jobs: int = 1_000
    fault_rounds: frozenset[int] = frozenset({0, 2})


QUICK = Plan(
    rounds=1,
    enqueue_seconds=0.4,
    most_enqueued=2_000,
    sleep_jobs=200,
    cpu_jobs=15,
    latency_seconds=1.0,
    idle_seconds=0.5,
    floor_seconds=0.2,
    delayed_jobs=0,
    fault_rounds=frozenset(),
)


def measure(system: System, folder: Path, plan: Plan, *, cpu_rounds: int, position: int) -> Round:
    """Every measure of a system on fresh servers, in the round at `position`."""
    found: Round = {}
    with Session(
        system, folder / "load", lease_seconds=_LONG_LEASE_SECONDS, cpu_rounds=cpu_rounds
    ) as session:
        found |= _two_processes(session, plan)
        found |= _one_process(session, plan)
        if system.key.startswith("ours"):
            found |= _floor(session, plan)
        if position == 0 and plan.delayed_jobs and system.key in _DELAYED:
            found |= _delayed(session, plan)
    if position in plan.fault_rounds:
        folder = folder / "faults"
        with Session(system, folder, lease_seconds=_SHORT_LEASE_SECONDS, cpu_rounds=cpu_rounds) as session:
            found |= _worker_killed(session, plan)
            found |= _server_killed(session, plan)
    return found


def _two_processes(session: Session, plan: Plan) -> Round:
    workers = _warm(session, 2)
    workers.freeze()
    limits: dict[str, Any] = {"most": plan.most_enqueued, "seconds": plan.enqueue_seconds}
    single = session.enqueue("single", **limits)
    concurrent = session.enqueue("concurrent", **limits)
    batch = session.enqueue("batch", most=plan.batch)
    found = {
        "enqueue_single": single.rate,
        "enqueue_concurrent": concurrent.rate,
        "enqueue_us": 1e6 / single.rate,
        "enqueue_cpu_us": single.cpu_us,
        "enqueue_concurrent_cpu_us": concurrent.cpu_us,
    }
    if batch.ids:
        found |= {"enqueue_batch": batch.rate, "enqueue_batch_cpu_us": batch.cpu_us}
    backlog = len(single.ids) + len(concurrent.ids) + len(batch.ids)
    found |= _drain(session, workers, "noop_2x8", backlog)
    found |= _sleep_and_cpu(session, workers, plan)
    found |= _latency(session, "half", found["noop_2x8"] / 2, plan.latency_seconds)
    found |= _latency(session, "common", plan.common_rate, plan.latency_seconds)
    if session.system.key.startswith("ours"):  # a rate that not all rivals can keep up with
        found |= _latency(session, "brisk", plan.brisk_rate, plan.latency_seconds)
    found |= _idle(session, workers, plan.idle_seconds)
    workers.kill()
    return found


def _one_process(session: Session, plan: Plan) -> Round:
    workers = _warm(session, 1)
    workers.freeze()
    sent = session.enqueue("concurrent", most=plan.most_enqueued, seconds=plan.enqueue_seconds)
    found = _drain(session, workers, "noop_1x8", len(sent.ids))
    found |= _sleep_and_cpu(session, workers, plan)
    workers.kill()
    return found


def _sleep_and_cpu(session: Session, workers: Workers, plan: Plan) -> Round:
    found: Round = {}
    for kind, per_process in (("sleep", plan.sleep_jobs), ("cpu", plan.cpu_jobs)):
        workers.freeze()
        sent = session.enqueue("concurrent", kind, most=per_process * workers.processes)
        done = _drain(session, workers, f"{kind}_{workers.processes}x8", len(sent.ids))
        found |= {name: value for name, value in done.items() if name.startswith(kind)}
    return found


def _warm(session: Session, processes: int) -> Workers:
    workers = session.ready_workers(processes)
    session.wait_quiet(_QUIET_SECONDS)
    return workers


def _drain(session: Session, workers: Workers, name: str, backlog: int) -> Round:
    """Thaw warm workers on a backlog; jobs per second until nearly all ended, and the processor time of all.

    The last 2 % are left out: the end of a backlog is a race of a few stragglers, not throughput.
    """
    first = session.records.count()
    servers = session.server_pids()
    worker_cpu, server_cpu = workers.cpu_seconds(), cpu_seconds(servers)
    started = time.monotonic_ns()
    workers.thaw()
    session.wait_finished(first + backlog, seconds=_DRAIN_SECONDS)
    session.wait_quiet(_QUIET_SECONDS)
    ended = sorted(session.records.since(first)["ended"].tolist())
    counted = int(0.98 * backlog)
    return {
        name: counted / (ended[counted - 1] - started) * 1e9,
        "worker_cpu_us": (workers.cpu_seconds() - worker_cpu) / backlog * 1e6,
        "broker_cpu_us": (cpu_seconds(servers) - server_cpu) / backlog * 1e6,
    }


def _latency(session: Session, name: str, rate: float, seconds: float) -> Round:
    """From just before the enqueueing call to the start of the job, at a steady rate."""
    first = session.records.count()
    sent = session.enqueue("paced", most=max(20, int(rate * seconds)), rate=rate)
    session.wait_finished(first + len(sent.ids), seconds=_DRAIN_SECONDS)
    records = session.records.since(first)
    warm = records[records["job"] >= sent.ids.start + len(sent.ids) // 6]
    waited = ((warm["started"] - warm["sent"]) / 1e6).tolist()
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    found = {f"{name}_{label}_ms": percentile(waited, share) for label, share in shares.items()}
    return {**found, f"{name}_rate": sent.rate}


def _idle(session: Session, workers: Workers, seconds: float) -> Round:
    """Share of a core that a worker process uses for nothing; supervisors are counted with their workers."""
    session.wait_quiet(0.5)
    before, started = workers.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    used = (workers.cpu_seconds() - before) / (time.monotonic() - started)
    return {"idle_percent": 100 * used / workers.processes}


def _delayed(session: Session, plan: Plan) -> Round:
    """Memory of a worker, and the way of other jobs, while a crowd waits for its time."""
    workers = session.ready_workers(1)
    session.wait_quiet(1.0)
    before = workers.memory_mb()
    sent = session.enqueue("delayed", most=plan.delayed_jobs, seconds=_DELAYED_SECONDS)
    session.wait_quiet(3.0)
    found = {"delayed_jobs": len(sent.ids), "delayed_growth_mb": workers.memory_mb() - before}
    found |= _latency(session, "delayed", plan.common_rate, plan.latency_seconds)
    workers.kill()
    return found


def _floor(session: Session, plan: Plan) -> Round:
    command = [sys.executable, "-m", "tests.bench.broker.floor", session.run.url]
    command += [str(session.run.replicas), str(plan.floor_seconds)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=_DRAIN_SECONDS
    )
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


# Faults. A job counts as lost when it never finished, as doubled when it finished more than once.


def _worker_killed(session: Session, plan: Plan) -> Round:
    """Both worker processes are killed in the middle of a backlog and started again at once."""
    workers = _warm(session, 2)
    workers.freeze()
    sent = session.enqueue("concurrent", "sleep", most=plan.fault_jobs)
    first = session.records.count()
    workers.thaw()
    session.wait_finished(first + plan.fault_jobs // 3, seconds=_DRAIN_SECONDS)
    workers.kill()
    again = session.start_workers(2)
    lost, doubled = _outcome(session, sent, first)
    again.kill()
    return {"worker_killed_lost": lost, "worker_killed_doubled": doubled, "fault_jobs": plan.fault_jobs}


def _server_killed(session: Session, plan: Plan) -> Round:
    """The broker is killed right after it confirmed the last job, and started again on the same data."""
    sent = session.enqueue("concurrent", most=plan.fault_jobs)
    session.server.kill()
    session.stop_producer()
    session.server.start()
    session.start_producer()
    first = session.records.count()
    workers = session.ready_workers(2)
    lost, doubled = _outcome(session, sent, first)
    workers.kill()
    return {"server_killed_lost": lost, "server_killed_doubled": doubled}


def _outcome(session: Session, sent: Sent, first: int) -> tuple[int, int]:
    """Wait until every job was seen, or nothing has moved for three times a lease."""
    count, since = -1, time.monotonic()
    while time.monotonic() - since < _NO_PROGRESS_SECONDS:
        if session.records.count() != count:
            count, since = session.records.count(), time.monotonic()
            if not lost_and_doubled(sent.ids, session.records.since(first)["job"].tolist())[0]:
                break
        time.sleep(0.05)
    session.wait_quiet(1.0)
    return lost_and_doubled(sent.ids, session.records.since(first)["job"].tolist())
