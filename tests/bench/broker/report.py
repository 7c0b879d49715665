"""The report: tables with one row per system, made of results only. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.broker.figures import Results, Round, Spread, of, ratio, total
from tests.bench.broker.systems import SYSTEMS, System
from tests.bench.broker.targets import target_table

_INSTEAD = """Where a target lies beyond the floor, [adr/0011](../adr/0011-targets-beyond-the-floor.md) says
why, and what is held instead."""

Cell = Callable[[Results, System], str]
RIVALS = {"redis": "Redis", "rabbitmq": "RabbitMQ", "taskiq-nats": "taskiq-nats"}


@dataclass(frozen=True)
class Column:
    """A heading and what stands below it."""

    heading: str
    cell: Cell


def shown(found: Spread | None) -> str:
    """A figure, or a dash."""
    return "-" if found is None else str(found)


def plain(heading: str, measure: str) -> Column:
    """A measure of the system's own."""
    return Column(heading, lambda results, system: shown(of(results, system.key, measure)))


def beside(rival: str, measure: str, heading: str = "") -> Column:
    """A measure as a multiple of a rival's in the same round."""

    def cell(results: Results, system: System) -> str:
        found = shown(ratio(results, system.key, rival, measure))
        return "1" if system.key == rival and found != "-" else found

    return Column(heading or f"x {RIVALS[rival]}", cell)


def counted(heading: str, measure: str) -> Column:
    """A sum over rounds, beside the number of jobs."""

    def cell(results: Results, system: System) -> str:
        number, jobs = total(results, system.key, measure), total(results, system.key, "fault_jobs")
        return "-" if number is None else f"{number:,} of {jobs:,}"

    return Column(heading, cell)


def _latencies(name: str) -> list[Column]:
    return [plain(f"{share} ms", f"{name}_{share}_ms") for share in ("p50", "p95", "p99")]


SECTIONS: dict[str, list[Column]] = {
    "Completed no-op jobs per second": [
        *(plain("1 x 8", "noop_1x8"), beside("redis", "noop_1x8")),
        *(beside("rabbitmq", "noop_1x8"), beside("taskiq-nats", "noop_1x8")),
        *(plain("2 x 8", "noop_2x8"), beside("redis", "noop_2x8")),
        *(beside("rabbitmq", "noop_2x8"), beside("taskiq-nats", "noop_2x8")),
    ],
    "Completed jobs of 10 ms sleep and 20 ms processor time per second": [
        *(plain("sleep, 1 x 8", "sleep_1x8"), plain("sleep, 2 x 8", "sleep_2x8")),
        *(plain("CPU, 1 x 8", "cpu_1x8"), plain("CPU, 2 x 8", "cpu_2x8")),
    ],
    "Enqueued jobs per second": [
        *(plain("one thread", "enqueue_single"), beside("redis", "enqueue_single")),
        *(plain("16 threads", "enqueue_concurrent"), beside("redis", "enqueue_concurrent")),
        *(plain("batch", "enqueue_batch"), plain("processor µs per job, one thread", "enqueue_cpu_us")),
    ],
    "From enqueue to start at half of the system's own load, 2 x 8": [
        plain("jobs/s", "half_rate"),
        *_latencies("half"),
    ],
    "From enqueue to start at the same rate for all, 2 x 8": [
        plain("jobs/s", "common_rate"),
        *_latencies("common"),
    ],
    "Cost of the machinery": [
        plain("worker µs per no-op job", "worker_cpu_us"),
        plain("broker µs per no-op job", "broker_cpu_us"),
        plain("idle worker process, % of a core", "idle_percent"),
    ],
    "While a crowd of jobs waits for a time in an hour (once, 1 x 8)": [
        *(plain("jobs waiting", "delayed_jobs"), plain("worker grew by MB", "delayed_growth_mb")),
        plain("other jobs/s", "delayed_rate"),
        *_latencies("delayed"),
    ],
    "Killed with -9": [
        counted("workers killed: lost", "worker_killed_lost"),
        counted("doubled", "worker_killed_doubled"),
        counted("broker killed: lost", "server_killed_lost"),
        counted("doubled", "server_killed_doubled"),
    ],
}

FLOOR: list[Column] = [
    *(plain("publish one at a time", "floor_single"), plain("ours, one thread", "enqueue_single")),
    *(plain("publish, 64 in flight", "floor_concurrent"), plain("ours, 16 threads", "enqueue_concurrent")),
    *(plain("fetch 200 + ack", "floor_take"), plain("ours, 1 x 8, completed", "noop_1x8")),
]

TIME: list[Column] = [
    plain("round trip of nothing", "bare_ping_us"),
    *(plain("bare socket", "bare_publish_us"), plain("its processor time", "bare_publish_cpu_us")),
    *(plain("raw nats-py", "floor_single_us"), plain("its processor time", "floor_single_cpu_us")),
    *(plain("the system, one thread", "enqueue_us"), plain("its processor time", "enqueue_cpu_us")),
    plain("processor time, 16 threads", "enqueue_concurrent_cpu_us"),
    plain("processor time, batch", "enqueue_batch_cpu_us"),
]


def table(results: Results, columns: Sequence[Column], *, only: str = "") -> list[str]:
    """A Markdown table of the systems that have such results (of those whose key starts with `only`)."""
    rows = []
    for system in SYSTEMS:
        if system.key in results and system.key.startswith(only):
            cells = [column.cell(results, system) for column in columns]
            if set(cells) != {"-"} or not any(results[system.key]):
                title = system.title + _rounds_missed(results[system.key])
                rows.append(f"| {title} | {system.durability} | " + " | ".join(cells) + " |")
    headings = ["system", "a confirmed job is in", *(column.heading for column in columns)]
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *rows] if rows else []


def _rounds_missed(rounds: Sequence[Round]) -> str:
    done = sum(1 for one in rounds if one)
    return "" if done == len(rounds) else f" ({done} of {len(rounds)} rounds)"


def losses(results: Results) -> list[str]:
    """Where a rival was better than ours on one replica with its default sync, as sentences."""
    found = []
    for measure, (name, more_is_better) in _COMPARED.items():
        for rival in SYSTEMS:
            compared = None if rival.key.startswith("ours") else ratio(results, "ours-r1", rival.key, measure)
            if compared and (compared.median < 1) == more_is_better and abs(compared.median - 1) > _SAME:
                found.append(f"- {name}: {rival.title} is better; ours has {compared} times its figure.")
    return found or ["- Nowhere beyond 3 %."]


_SAME = 0.03
_COMPARED = {
    "noop_1x8": ("completed no-op jobs/s, 1 x 8", True),
    "noop_2x8": ("completed no-op jobs/s, 2 x 8", True),
    "sleep_1x8": ("completed sleeping jobs/s, 1 x 8", True),
    "sleep_2x8": ("completed sleeping jobs/s, 2 x 8", True),
    "cpu_1x8": ("completed CPU jobs/s, 1 x 8", True),
    "cpu_2x8": ("completed CPU jobs/s, 2 x 8", True),
    "enqueue_single": ("enqueue/s, one thread", True),
    "enqueue_concurrent": ("enqueue/s, 16 threads", True),
    "enqueue_cpu_us": ("processor time of an enqueue", False),
    "common_p50_ms": ("enqueue-to-start p50 at the same rate", False),
    "common_p99_ms": ("enqueue-to-start p99 at the same rate", False),
    "worker_cpu_us": ("worker's processor time per job", False),
    "broker_cpu_us": ("broker's processor time per job", False),
    "idle_percent": ("processor time of an idle worker", False),
}


def report(results: Results, head: str, notes: Sequence[str]) -> str:
    """The whole page."""
    parts = [head, "## Targets\n", *target_table(results), "", _INSTEAD]
    for title, columns in SECTIONS.items():
        parts += _section(title, table(results, columns))
    parts += _section("Distance to the floor of raw nats-py", table(results, FLOOR, only="ours"))
    parts += _section("Where the time of an enqueue goes, microseconds per job", table(results, TIME))
    parts += ["\n## Where a rival is better than ours on one replica", "", *losses(results)]
    parts += ["", *(f"- Note: {note}" for note in notes)] if notes else []
    return "\n".join(parts) + "\n"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"\n## {title}\n", *lines] if lines else []
