"""The table of faults, and the schedule that a seed makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.chaos.faults import clock, cluster, frozen, identity, poison, processes, servers, streams, writes
from tests.chaos.world import POOLS, World

QUEUES = ("collection-transforms", "dataset-transforms")  # whose work the load causes without a pause


@dataclass(frozen=True)
class Kind:
    """A fault: what it does to a target, and which targets it has."""

    inject: Callable[[World, str], None]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """One fault of a schedule: `at` is seconds after the start, `target` what the seed chose for it."""

    at: float
    fault: str
    target: str


_ALONE: dict[str, Kind] = {
    "F01 kill -9": Kind(processes.kill, POOLS),
    "F02 kill -9 at every delivery": Kind(poison.bomb, ("collections",)),
    "F03 SIGTERM": Kind(processes.roll_out, (*POOLS, "web")),
    "F04 SIGSTOP past the take-over": Kind(frozen.freeze, frozen.TARGETS),
    "F05 NATS": Kind(servers.kill, ("nats",)),
    "F06 NATS loses what it had acknowledged": Kind(streams.go_back, ("old copy", "blocks cut short")),
    "F07 streams": Kind(
        streams.destroy,
        tuple(f"{verb} {stream}" for verb in ("delete", "purge") for stream in streams.TARGETS),
    ),
    "F09 Postgres": Kind(servers.kill, ("postgres",)),
    "F09 no connection left": Kind(servers.take_all_connections, ("postgres",)),
    "F09 read only": Kind(servers.read_only, ("postgres",)),
    "F10 slow Postgres": Kind(servers.slow, ("postgres",)),
    "F11 vectors": Kind(servers.kill, ("vector",)),
    "F11 dropped index": Kind(servers.drop_index, ("vector",)),
    "F12 S3": Kind(servers.kill, ("s3",)),
    "F12 wrong answers": Kind(
        servers.answer_wrong, ("s3 error", "s3 half", "s3 slow", "vector error", "vector half")
    ),
    "F13 provider": Kind(poison.fail_provider, ("429", "status", "hang", "garbage", "dimension")),
    "F14 Tika": Kind(servers.hurt_tika, ("killed", "stopped")),
    "F15 identity provider": Kind(identity.hurt, ("away", "error", "half", "keys")),
    "F16 black hole": Kind(servers.black_hole, ("nats", "postgres", "s3", "vector", "tika")),
    "F17 disk full": Kind(servers.fill_disk, ("nats", "postgres")),
    "F18 failing writes": Kind(writes.fail, ("nats", "postgres")),
    "F19 no memory": Kind(processes.starve_of_memory, ("collections", "datasets")),
    "F20 no file descriptors": Kind(processes.starve_of_files, ("web", "datasets")),
    "F21 clock": Kind(clock.jump, ("collections, ahead", "datasets, behind", "datasets, to and fro")),
    "F22 messages of strangers": Kind(streams.publish_strange, QUEUES),
    "F26 poison": Kind(poison.poison, ("broken", "refused", "stubborn")),
}  # fmt: skip


_CLUSTERED = {"F08 leader of a NATS cluster": Kind(cluster.kill_leader, cluster.TARGETS)}
FAULTS = _ALONE | _CLUSTERED


def possible(*, clustered: bool) -> dict[str, Kind]:
    """The faults of a world with one NATS server, or with three, none of which is cut off or restored."""
    if not clustered:
        return _ALONE
    kinds = {
        name: replace(kind, targets=tuple(target for target in kind.targets if target != "nats"))
        for name, kind in _ALONE.items()
        if kind.inject is not streams.go_back
    }
    return {name: kind for name, kind in kinds.items() if kind.targets} | _CLUSTERED


def schedule(
    seed: int, seconds: float, pause: float = 10.0, *, only: str = "", clustered: bool = False
) -> list[Planned]:
    """The faults of a seed, each of them once before any comes a second time.

    `only` keeps those whose name begins so, as in "F06" or "F09 read"; `clustered` is for three NATS servers.
    """
    dice, table = random.Random(seed), possible(clustered=clustered)
    kinds = [name for name in sorted(table) if name.startswith(only)]
    planned, at, left = [], pause, list[str]()
    while at < seconds:
        left = left or dice.sample(kinds, len(kinds))
        fault = left.pop()
        planned.append(Planned(at, fault, dice.choice(table[fault].targets)))
        at += pause * dice.uniform(0.7, 1.3)
    return planned
