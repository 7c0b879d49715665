"""The targets, and whether a run met them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.bench.broker.figures import Results, number, of, ratio


@dataclass(frozen=True)
class Target:
    """`measure` of `system`, at least or at most `bound`: a multiple of a rival's (of its `their_measure`,
    where that is another one), or a figure.
    """

    text: str
    system: str
    measure: str
    bound: float
    rival: str | None = None
    their_measure: str | None = None
    unit: str = ""
    at_most: bool = False


def _shapes(text: str, system: str, rival: str, bound_1x8: float, bound_2x8: float) -> list[Target]:
    return [
        Target(
            f"{text}, {shape[0]} process{'es' if shape[0] != '1' else ''}",
            system,
            f"noop_{shape}",
            bound,
            rival,
        )
        for shape, bound in (("1x8", bound_1x8), ("2x8", bound_2x8))
    ]


def _held(text: str, measure: str, bound: float, **how: Any) -> Target:
    """What is held where the target asked lies beyond the floor."""
    return Target(f"{text} (instead, adr/0011)", "ours-r1", measure, bound, **how)


TARGETS = (
    *_shapes("completed/s, R1, beside Dramatiq + Redis", "ours-r1", "redis", 4.0, 2.5),
    *_shapes("completed/s, R1, beside Dramatiq + RabbitMQ", "ours-r1", "rabbitmq", 2.0, 2.0),
    *_shapes("completed/s, R1, beside taskiq-nats", "ours-r1", "taskiq-nats", 1.5, 1.5),
    *_shapes("completed/s, R3 sync always, beside Dramatiq + Redis", "ours-r3-always", "redis", 1.0, 1.0),
    Target("enqueue/s, one thread, beside Dramatiq + Redis", "ours-r1", "enqueue_single", 1.5, "redis"),
    Target("enqueue/s, 16 threads, beside Dramatiq + Redis", "ours-r1", "enqueue_concurrent", 3.0, "redis"),
    Target("enqueue/s, batch", "ours-r1", "enqueue_batch", 30_000, unit="/s"),
    Target("enqueue-to-start p50 at half load", "ours-r1", "half_p50_ms", 5.0, unit=" ms", at_most=True),
    Target("enqueue-to-start p99 at half load", "ours-r1", "half_p99_ms", 25.0, unit=" ms", at_most=True),
    _held(
        "processor time of an enqueue, one thread, beside raw nats-py",
        "enqueue_cpu_us",
        1.0,
        rival="ours-r1",
        their_measure="floor_single_cpu_us",
        at_most=True,
    ),
    _held("enqueue/s, 16 threads, beside Dramatiq + Redis", "enqueue_concurrent", 2.0, rival="redis"),
    _held("enqueue-to-start p50 at 2,000/s", "brisk_p50_ms", 5.0, unit=" ms", at_most=True),
    _held("enqueue-to-start p99 at 2,000/s", "brisk_p99_ms", 25.0, unit=" ms", at_most=True),
    Target(
        "growth of a worker with 100,000 delayed",
        "ours-r1",
        "delayed_growth_mb",
        5.0,
        unit=" MB",
        at_most=True,
    ),
    Target("p99 of other jobs meanwhile", "ours-r1", "delayed_p99_ms", 25.0, unit=" ms", at_most=True),
    Target("idle worker process", "ours-r1", "idle_percent", 1.0, unit=" % of a core", at_most=True),
)


def verdict(results: Results, target: Target) -> tuple[str, str]:
    """(what was found, "met", "missed" or "not measured")."""
    if target.rival:
        found = ratio(results, target.system, target.rival, target.measure, target.their_measure)
        unit = "x"
    else:
        found, unit = of(results, target.system, target.measure), target.unit
    if found is None:
        return "", "not measured"
    met = found.median <= target.bound if target.at_most else found.median >= target.bound
    return f"{found}{unit}", "met" if met else "**missed**"


def target_table(results: Results) -> list[str]:
    """A Markdown table with one line per target."""
    lines = ["| target | asked | found | |", "|---|---|---|---|"]
    for target in TARGETS:
        found, said = verdict(results, target)
        sign = "at most" if target.at_most else "at least"
        asked = f"{sign} {number(target.bound)}{'x' if target.rival else target.unit}"
        lines.append(f"| {target.text} | {asked} | {found} | {said} |")
    return lines
