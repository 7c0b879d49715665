"""Faults on the product's own processes."""

from __future__ import annotations

import re
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.chaos.world import World, until
from tests.support.providers import Fault

_QUEUES = {"collections": "collection-transforms", "datasets": "dataset-transforms"}
_STARVED_SECONDS = 4.0
_MEMORY_LEFT = 8 << 20
_RUNNING = "SELECT job_id::text FROM jobs WHERE state = 'running' AND queue = %s AND kind = ANY(%s)"
_SLOW_KINDS = ["extract_file", "embed_items"]
# A running job is missed 40 minutes after it began: its row says that it began yesterday.
_AGE = """UPDATE jobs SET started_at = started_at - interval '1 day',
    expected_by = expected_by - interval '1 day' WHERE job_id = ANY(%s::uuid[]) AND finished_at IS NULL"""
_MARKER = re.compile(r"marker[0-9]+[a-z]+[0-9]+")


def kill(world: World, target: str) -> None:
    """F01: kill -9, and a supervisor that starts it again. A map is being drawn where that is the target."""
    _draw(world, target)
    world.product.kill(target)
    time.sleep(0.5)
    world.product.restart_dead()


def roll_out(world: World, target: str) -> None:
    """F03: SIGTERM and a successor."""
    _draw(world, target)
    world.product.end(target)
    world.product.begin(target)
    if target == "web" and not until(world.product._is_ready, seconds=60):
        world.violations.append("web did not come back after SIGTERM")


def freeze(world: World, target: str) -> None:
    """F04: SIGSTOP in the middle of a run, another worker takes its job over and ends it, then SIGCONT.

    Where the successor is to give up, the provider denies it the texts that the frozen run waits for.
    """
    name, gives_up = target.partition(",")[0], "," in target

    def running() -> list[str]:
        return [job_id for (job_id,) in world.rows(_RUNNING, _QUEUES[name], _SLOW_KINDS)]

    with _slow_work(world, name):
        until(lambda: world.provider.slowed if name == "datasets" else running(), seconds=20, pause=0.02)
        world.product.kill(name, signal.SIGSTOP)
        awaited = str(world.provider.slowed)
    try:
        jobs = running()
        with _successor(world, name):  # takes nothing before it is up, some seconds
            world.provider.denied_words = frozenset(_MARKER.findall(awaited) * gives_up)
            taken = _taken_over(world, jobs)
            world.product.kill(name, signal.SIGCONT)
            time.sleep(3)  # the zombie tries to write
        world.notes.append(f"F04: {taken} of {len(jobs)} jobs ended by others while {name} stood still")
    finally:
        world.product.kill(name, signal.SIGCONT)


def starve_of_memory(world: World, target: str) -> None:
    """F19: a worker gets no more memory than it has, for some seconds."""
    _starve(world, target, resource.RLIMIT_AS, lambda process: process.memory_info().vms + _MEMORY_LEFT)


def starve_of_files(world: World, target: str) -> None:
    """F20: a process can open hardly another file or connection, for some seconds."""
    _starve(world, target, resource.RLIMIT_NOFILE, lambda process: process.num_fds() + 2)


def _draw(world: World, target: str) -> None:
    if target == "visualizations":
        with suppress(httpx.TransportError):
            world.load.ask_for_map(world.load.piles[0])
        time.sleep(1.5)


@contextmanager
def _slow_work(world: World, name: str) -> Iterator[None]:
    """Runs of the pool take seconds, so that one can be caught."""
    world.proxies["s3"].mode = "slow" if name == "collections" else "pass"
    if name == "datasets":
        world.provider.faults.extend([Fault("slow", seconds=3.0)] * 2)
    try:
        yield
    finally:
        world.proxies["s3"].mode = "pass"


@contextmanager
def _successor(world: World, name: str) -> Iterator[None]:
    """A second worker of the pool."""
    other = f"{name}-2"
    world.product._commands[other] = world.product._commands[name].replace("HEALTH_CHECK_PORT=", "IGNORED=")
    try:
        world.product.begin(other)
        yield
    finally:
        world.product.end(other)
        del world.product._commands[other]


def _taken_over(world: World, jobs: list[str]) -> int:
    """Have the jobs missed until others have ended them; how many were.

    More than once: the frozen worker may have asked for a message that the server still hands to it.
    """
    ended = "SELECT count(*) FROM jobs WHERE job_id = ANY(%s::uuid[]) AND finished_at IS NOT NULL"
    for _ in range(4 if jobs else 0):
        world.rows(_AGE, jobs)
        if until(lambda: world.value(ended, jobs) == len(jobs), seconds=8, pause=0.3):
            break
    world.provider.denied_words = frozenset()
    return int(world.value(ended, jobs)) if jobs else 0


def _starve(world: World, target: str, limit: int, wanted: Callable[[psutil.Process], int]) -> None:
    before = {}
    for process in world.processes(target):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            before[process.pid] = resource.prlimit(process.pid, limit)
            hard = before[process.pid][1]
            resource.prlimit(process.pid, limit, (wanted(process), hard))
    try:
        time.sleep(_STARVED_SECONDS)
    finally:
        for pid, limits in before.items():
            if Path(f"/proc/{pid}").exists():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, limit, limits)
