"""Work that cannot succeed, in the middle of work that can."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import httpx

from brokers import dead_letter
from tests.chaos.hooks import BOMB, STUBBORN
from tests.chaos.world import World, opened, until
from tests.support.providers import Fault

_DEAD_WITHIN_SECONDS = 180  # three worker deaths, noticed, and three starts
_GIVEN_UP_WITHIN_SECONDS = 180.0  # five attempts, with ten seconds between them in all
_STATE = """SELECT j.state FROM files f JOIN jobs j ON j.kind = 'extract_file'
    AND (j.arguments ->> 'file_id')::int = f.file_id WHERE f.name = %s"""
_JOB = """SELECT j.job_id::text FROM files f JOIN jobs j ON j.kind = 'extract_file'
    AND (j.arguments ->> 'file_id')::int = f.file_id WHERE f.name = %s AND j.state = 'dead'"""
_HEALTHY = """SELECT count(*) FROM jobs
    WHERE kind = 'extract_file' AND state = 'succeeded' AND created_at > %s"""
_ATTEMPTS = 5
_ROUNDING_SECONDS = 0.05
_BACKOFF = "RETRY_BACKOFF_SECS"


def fail_provider(world: World, target: str) -> None:
    """F13: the next answers of the embedding provider are wrong."""
    fault = Fault("status", 429, retry_after="1") if target == "429" else Fault(target)  # type: ignore[arg-type]
    world.provider.faults.extend([fault] * 3)


def poison(world: World, target: str) -> None:
    """F26: a file that nobody can read, a text that the provider never takes, or a job that fails each time.

    The last must be tried five times, with the pauses that are set between them, and leave one dead letter;
    files that came after it must have been read meanwhile.
    """
    began, name = world.now(), _upload(world, target)
    if name is None:
        world.notes.append("F26: the API took no file")
    elif target == STUBBORN:
        found = until(lambda: world.rows(_JOB, name), seconds=_GIVEN_UP_WITHIN_SECONDS, pause=0.3)
        if not found:
            world.violations.append(f"F26: {name} was not given up within {_GIVEN_UP_WITHIN_SECONDS:g} s")
            return
        others = world.value(_HEALTHY, began)
        _expect_attempts(world, found[0][0])
        world.notes.append(f"F26: {others} files were read while one was given up")
        if not others:
            world.violations.append("F26: nobody's file was read while one was tried again and again")


def bomb(world: World, _: str) -> None:
    """F02: a file that kills every worker that reads it, until the broker gives its message up."""
    began = time.monotonic()
    name = until(lambda: _upload(world, BOMB), seconds=30, pause=1)
    if name is None:
        world.notes.append("F02: the API took no file")
        return

    def is_dead() -> bool:
        world.product.restart_dead()
        return world.rows(_STATE, name) == [("dead",)]

    dead = until(is_dead, seconds=_DEAD_WITHIN_SECONDS, pause=0.3)
    result = (
        f"dead after {time.monotonic() - began:.0f} s"
        if dead
        else f"not dead within {_DEAD_WITHIN_SECONDS} s"
    )
    world.notes.append(f"F02: {result}")


def _upload(world: World, kind: str) -> str | None:
    try:
        return world.load.poison(kind)
    except httpx.TransportError:
        return None


def _expect_attempts(world: World, job_id: str) -> None:
    """The job's one dead letter tells of five attempts, none sooner than its pause allows."""
    letters = until(lambda: _letters(world, job_id), seconds=30, pause=0.5) or []
    if len(letters) != 1:
        world.violations.append(f"F26: {len(letters)} dead letters of a job that failed each time")
        return
    attempts = letters[0].attempts
    waits = [float(wait) for wait in world.environment[_BACKOFF].split(",")]
    gaps = [after["started_at"] - before["ended_at"] for before, after in pairwise(attempts)]
    early = [gap for gap, wait in zip(gaps, waits, strict=False) if gap < wait - _ROUNDING_SECONDS]
    if len(attempts) != _ATTEMPTS or early:
        world.violations.append(f"F26: {len(attempts)} attempts with pauses of {gaps} s instead of {waits}")


def _letters(world: World, job_id: str) -> list[Any]:
    with opened(world.environment) as container:
        letters = dead_letter.list_dead(container.broker, 10_000)
    return [letter for letter in letters if str(letter.message_id).startswith(job_id)]
