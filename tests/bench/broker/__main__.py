"""`make bench-broker`: the broker beside Redis, RabbitMQ, Celery and taskiq-nats, in one run.

    python -m tests.bench.broker [--quick] [--only ours-r1,redis] [--write]

Every round takes all systems in a fresh random order; each gets fresh servers on free loopback ports, a
process that enqueues and worker processes of eight threads, started by their own command lines. ROUNDS=n
changes the number of rounds.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.broker import machine
from tests.bench.broker.bodies import calibrated_rounds
from tests.bench.broker.figures import Results, Round, number
from tests.bench.broker.measure import QUICK, Plan, measure
from tests.bench.broker.report import report
from tests.bench.broker.systems import SYSTEMS, System, available, chosen
from tests.bench.broker.workers import ROOT

PAGE = ROOT / "docs" / "benchmarks" / "broker.md"

HEAD = """# The broker beside others

`make bench-broker` ({command}), {when}: {facts}. {versions}.

Median (least-most) of {rounds} rounds; in each, all systems one after the other in random order on fresh
servers with their data on the same disk. Ratios are taken round by round. All share {cores} cores with their
broker and the process that enqueues.

- Jobs carry 1 kB. Worker processes are started by each framework's own command line, 1 or 2 with 8 threads
  each, with default settings; results are off, acknowledgement is after the run. taskiq-nats is there twice:
  by default it fetches jobs one at a time; fetching 100 it is faster, but waits for them. Every finished job
  is one 32-byte record that its worker appends to a file in memory, the same for all.
- *Completed*: warm workers are frozen (SIGSTOP), a backlog is enqueued, they are thawed; from there to the
  end of 98 % of the jobs. *Enqueued* is measured on that backlog, so nobody consumes meanwhile: one thread,
  16 threads (taskiq: 16 coroutines), and {batch:,} jobs in one call where the system has one.
- *From enqueue to start* is from just before the enqueueing call to the first line of the job. "Half load" is
  half of the completed no-op jobs per second of the same round; where jobs/s stays below that, the enqueueing
  process could not keep up.
- *Processor µs* are of all worker processes (or broker processes) together during the no-op backlog, 1 x 8.
- *Killed with -9*: both worker processes in the middle of a backlog of 10 ms jobs, started again at once; and
  the broker right after it confirmed the last job, started again on the same data (of a cluster: all three).
  A killed process is not a power cut: what was written, synced or not, survives it. Leases are 5 s there.
  Lost is what had not finished when nothing had moved for 15 s. Doubled is what finished twice, which "at
  least once" allows.
- A system that fails in a round is measured once more in it, on fresh servers; all failures stand at the foot
  of the page. A row that rests on fewer rounds says so.

"""


def main(arguments: list[str]) -> int:
    """Run everything, print the report, write it when asked."""
    started = time.monotonic()
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else Plan()
    rounds = int(os.environ.get("ROUNDS", str(plan.rounds)))  # noqa: TID251
    plan = dataclasses.replace(plan, rounds=rounds)
    systems, notes = available(chosen(options.only))
    for note in notes:
        print(note, flush=True)
    scratch = ROOT / ".data"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-broker-", dir=scratch) as folder:
        facts = machine.facts(Path(folder))
        results, failures = run(systems, Path(folder), plan)
    print(f"{(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    page = report(results, _head(plan, facts, arguments), [*notes, *failures])
    print(page)
    if options.write:
        PAGE.write_text(page)
        print(f"written to {PAGE.relative_to(ROOT)}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.broker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keys = ", ".join(system.key for system in SYSTEMS)
    parser.add_argument("--only", metavar="KEYS", help=f"comma-separated, of: {keys}")
    parser.add_argument("--quick", action="store_true", help="one short round without kills, for developing")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    return parser


def run(systems: list[System], folder: Path, plan: Plan) -> tuple[Results, list[str]]:
    """All rounds; a system that fails twice in a round has an empty Round there. A sentence per failure."""
    results: Results = {system.key: [] for system in systems}
    failures: list[str] = []
    cpu_rounds = calibrated_rounds()
    for position in range(plan.rounds):
        for system in random.sample(systems, len(systems)):
            started = time.monotonic()
            found: Round = {}
            for place in (f"{position}-{system.key}", f"{position}-{system.key}-again"):
                try:
                    found = measure(system, folder / place, plan, cpu_rounds=cpu_rounds, position=position)
                    break
                except Exception as error:  # noqa: BLE001 - one system's trouble must not end the run of all
                    failures.append(f"{system.title}, round {position + 1}: {type(error).__name__}: {error}")
                    print(failures[-1], flush=True)
            results[system.key].append(found)
            _say(f"round {position + 1}/{plan.rounds} {system.key}", found, time.monotonic() - started)
    return results, failures


def _say(title: str, found: Round, seconds: float) -> None:
    names = ["noop_1x8", "noop_2x8", "enqueue_single", "enqueue_concurrent", "half_p50_ms", "half_p99_ms"]
    names += ["worker_killed_lost", "server_killed_lost"]
    figures = ", ".join(f"{name} {number(found[name])}" for name in names if name in found)
    print(f"{title}, {seconds:.0f} s: {figures or 'failed'}", flush=True)


def _head(plan: Plan, facts: str, arguments: list[str]) -> str:
    words = " ".join(argument for argument in arguments if argument != "--write")
    return HEAD.format(
        command=f"ROUNDS={plan.rounds}" + (f" {words}" if words else ""),
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        facts=facts,
        versions=machine.versions(),
        rounds=plan.rounds,
        cores=len(os.sched_getaffinity(0)),
        batch=plan.batch,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
