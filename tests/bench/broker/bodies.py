"""The jobs: the same function for every system."""

from __future__ import annotations

import time

from tests.bench.broker.run import current, note

SLEEP_SECONDS, CPU_SECONDS = 0.010, 0.020


def work(job: int, kind: str, sent: int, filler: str) -> None:
    """Do a job of its kind and record it. `sent` is the clock of its enqueueing, in nanoseconds."""
    del filler  # a payload of 1 kB that nobody reads
    started = time.monotonic_ns()
    if kind == "sleep":
        time.sleep(SLEEP_SECONDS)
    elif kind == "cpu":
        burn(current().cpu_rounds)
    note(job, sent, started, time.monotonic_ns())


def burn(rounds: int) -> int:
    """Keep the interpreter busy."""
    value = 1
    for number in range(rounds):
        value = (value * 31 + number) & 0xFFFF
    return value


def calibrated_rounds() -> int:
    """How many rounds take CPU_SECONDS of a core here: the best of several tries."""
    rounds, best = 100_000, float("inf")
    for _ in range(10):
        before = time.thread_time()
        burn(rounds)
        best = min(best, time.thread_time() - before)
    return int(rounds * CPU_SECONDS / best)
