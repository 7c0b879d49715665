"""Work that cannot succeed, in the middle of work that can."""

from __future__ import annotations

import time

import httpx

from tests.chaos.world import World, until
from tests.support.providers import Fault

_DEAD_WITHIN_SECONDS = 180  # three worker deaths, noticed, and three starts
_STATE = """SELECT j.state FROM files f JOIN jobs j ON j.kind = 'extract_file'
    AND (j.arguments ->> 'file_id')::int = f.file_id WHERE f.name = %s"""


def fail_provider(world: World, target: str) -> None:
    """F13: the next answers of the embedding provider are wrong."""
    fault = Fault("status", 429, retry_after="1") if target == "429" else Fault(target)  # type: ignore[arg-type]
    world.provider.faults.extend([fault] * 3)


def poison(world: World, target: str) -> None:
    """F26: a file that nobody can read, or a text that the provider never takes."""
    try:
        world.load.poison(target)
    except httpx.TransportError as error:
        world.notes.append(f"F26: {error}")


def bomb(world: World, _: str) -> None:
    """F02: a file that kills every worker that reads it, until the broker gives its message up."""
    began = time.monotonic()
    name = until(lambda: _upload(world), seconds=30, pause=1)
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


def _upload(world: World) -> str | None:
    try:
        return world.load.poison("bomb")
    except httpx.TransportError:
        return None
