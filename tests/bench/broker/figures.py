"""Statistics of the report: medians with their range, ratios by round, percentiles. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Round = dict[str, float]  # measure → value; what could not be measured is missing
Results = dict[str, list[Round]]  # system → one Round per round, in order


@dataclass(frozen=True)
class Spread:
    """Median, least and most of several rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        middle, least, most = (number(value) for value in (self.median, self.least, self.most))
        return middle if least == most else f"{middle} ({least}-{most})"


def number(value: float) -> str:
    """A figure with three digits or so: 9,812, 52.1, 0.73."""
    if abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median with least and most of what is there; None when nothing is."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def of(results: Results, system: str, measure: str) -> Spread | None:
    """A system's measure over all rounds."""
    return spread(one.get(measure) for one in results.get(system, []))


def total(results: Results, system: str, measure: str) -> int | None:
    """The sum over the rounds that measured it; None when none did."""
    known = [one[measure] for one in results.get(system, []) if measure in one]
    return int(sum(known)) if known else None


def ratio(
    results: Results, system: str, rival: str, measure: str, their_measure: str | None = None
) -> Spread | None:
    """How many times the rival's value, round by round: both of a round ran within minutes."""
    their_measure = their_measure or measure
    pairs = zip(results.get(system, []), results.get(rival, []), strict=False)
    return spread(
        ours[measure] / theirs[their_measure] if ours.get(measure) and theirs.get(their_measure) else None
        for ours, theirs in pairs
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of all lie: the nearest rank, never an invented value."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered) - 1e-9) - 1))])


def lost_and_doubled(expected: range, finished: Iterable[int]) -> tuple[int, int]:
    """(jobs that never finished, jobs that finished more than once) out of the expected ids."""
    counts = dict.fromkeys(expected, 0)
    for job in finished:
        if job in counts:
            counts[job] += 1
    return sum(1 for n in counts.values() if n == 0), sum(1 for n in counts.values() if n > 1)
