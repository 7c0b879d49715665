"""Faults on the product's own processes."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.chaos.hooks import HUNGER_BYTES, HUNGRY
from tests.chaos.world import World, until

_STARVED_SECONDS = 4.0
_MEMORY_LEFT = HUNGER_BYTES // 4  # enough for all other jobs
_FAILED_WITHIN_SECONDS, _FED_WITHIN_SECONDS = 30.0, 120.0
# The job that reads the hungry file, and the one that embeds its item.
_HUNGRY = {
    "collections": """SELECT j.job_id::text, j.state, j.error_message FROM files f JOIN jobs j
        ON j.kind = 'extract_file' AND (j.arguments ->> 'file_id')::int = f.file_id WHERE f.name = %s""",
    "datasets": """SELECT j.job_id::text, j.state, j.error_message FROM files f JOIN items i USING (file_id)
        JOIN item_embeddings e USING (item_id) JOIN jobs j USING (job_id) WHERE f.name = %s""",
}
_STARVED = """SELECT job_id::text FROM jobs
    WHERE error_message ~ 'MemoryError|start new thread|allocate memory' AND updated_at > %s"""


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


def starve_of_memory(world: World, target: str) -> None:
    """F19: a worker gets hardly more memory than it has, and a job that needs much.

    That job must fail and be tried again, it alone, and the worker must live on.
    """
    began, worker, failed = world.now(), world.processes(target)[0].pid, None
    with _starved(world, target, resource.RLIMIT_AS, lambda it: it.memory_info().vms + _MEMORY_LEFT):
        name = _upload_hungry(world)
        if name is not None:
            failed = until(lambda: _failed_for_memory(world, target, name), seconds=_FAILED_WITHIN_SECONDS)
            others = {job_id for (job_id,) in world.rows(_STARVED, began)} - {failed}
    if name is None:
        world.notes.append("F19: the API took no file")
    elif failed is None and _is_done(world, target, name):
        world.violations.append(f"F19: the job that needs memory did not fail in {target}")
    elif failed is None:
        world.notes.append(f"F19: the job that needs memory did not come in time in {target}")
    else:
        _expect_recovery(world, target, name, others, worker)


def starve_of_files(world: World, target: str) -> None:
    """F20: a process can open hardly another file or connection, for some seconds."""
    with _starved(world, target, resource.RLIMIT_NOFILE, lambda process: process.num_fds() + 2):
        time.sleep(_STARVED_SECONDS)


def _draw(world: World, target: str) -> None:
    if target == "visualizations":
        with suppress(httpx.TransportError):
            world.load.ask_for_map(world.load.piles[0])
        time.sleep(1.5)


def _upload_hungry(world: World) -> str | None:
    with suppress(httpx.TransportError):
        return world.load.poison(HUNGRY)
    return None


def _failed_for_memory(world: World, target: str, name: str) -> str | None:
    """The id of the hungry file's job once it has failed."""
    for job_id, _, message in world.rows(_HUNGRY[target], name):
        if "MemoryError" in (message or ""):
            return str(job_id)
    return None


def _is_done(world: World, target: str, name: str) -> bool:
    return any(state == "succeeded" for _, state, _ in world.rows(_HUNGRY[target], name))


def _expect_recovery(world: World, target: str, name: str, others: set[str], worker: int) -> None:
    if others:
        world.violations.append(f"F19: jobs failed for the memory of another: {sorted(others)}")
    if not until(lambda: _is_done(world, target, name), seconds=_FED_WITHIN_SECONDS, pause=0.3):
        world.violations.append(f"F19: {name} was not done when there was memory again")
    if world.processes(target)[0].pid != worker:
        world.violations.append(f"F19: the worker of {target} ended for one job's memory")


@contextmanager
def _starved(
    world: World, target: str, limit: int, wanted: Callable[[psutil.Process], int]
) -> Iterator[None]:
    before = {}
    for process in world.processes(target):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            before[process.pid] = resource.prlimit(process.pid, limit)
            hard = before[process.pid][1]
            resource.prlimit(process.pid, limit, (wanted(process), hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            if Path(f"/proc/{pid}").exists():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, limit, limits)
