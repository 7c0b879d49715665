"""How long after a fault was healed a job that was accepted after it ended well."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tests.chaos.faults import QUEUES, Planned
from tests.chaos.world import World

_FIRST = """SELECT extract(epoch FROM min(finished_at) - %s) FROM jobs
    WHERE queue = %s AND state = 'succeeded' AND created_at > %s"""


@dataclass(frozen=True)
class Healed:
    """A fault, when it was healed by Postgres' clock, and what kept it from being injected."""

    planned: Planned
    at: datetime
    problem: str | None = None


def report(world: World, healed: Iterable[Healed]) -> list[str]:
    """A line per fault: how often, median and worst of the seconds in which both pools were at work again."""
    seconds: dict[str, list[float | None]] = {}
    for one in healed:
        if one.problem is None:
            seconds.setdefault(one.planned.fault, []).append(_seconds(world, one.at))
    return [_line(fault, each) for fault, each in sorted(seconds.items())]


def _seconds(world: World, at: datetime) -> float | None:
    each = [world.value(_FIRST, at, queue, at) for queue in QUEUES]
    return None if None in each else float(max(each))


def _line(fault: str, seconds: list[float | None]) -> str:
    known = [one for one in seconds if one is not None]
    if not known:
        return f"{fault}: {len(seconds)} times, no job was accepted and done afterwards"
    middle, worst = statistics.median(known), max(known)
    return f"{fault}: {len(seconds)} times, recovered in {middle:.1f} s, at worst {worst:.1f} s"
