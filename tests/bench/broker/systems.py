"""The systems side by side: how each is served, worked and described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.broker.servers import Nats, RabbitMQ, Redis, Server, missing_programs

THREADS = 8


@dataclass(frozen=True)
class System:
    """`durability` says what a confirmed enqueue survives; `module` and `program` are what it needs here."""

    key: str
    title: str
    durability: str
    framework: str
    server: Callable[[Path], Server]
    module: str | None = None
    program: str | None = None


def _system(key: str, title: str, durability: str, server: Callable[..., Server], **more: Any) -> System:
    return System(key, title, durability, **{"framework": "dramatiq", "server": server, **more})


SYSTEMS = (
    _system("ours-r1", "ours, R1", "file, fsync every 2 min", Nats),
    _system(
        "ours-r1-always",
        "ours, R1, sync always",
        "file, fsync before confirm",
        partial(Nats, always=True),
    ),
    _system("ours-r3", "ours, R3", "majority of 3 files, fsync every 2 min", partial(Nats, replicas=3)),
    _system(
        "ours-r3-always",
        "ours, R3, sync always",
        "majority of 3 files, fsync before confirm",
        partial(Nats, replicas=3, always=True),
    ),
    _system("redis", "Dramatiq + Redis", "memory only", Redis, module="redis", program="redis"),
    _system(
        "redis-aof",
        "Dramatiq + Redis, AOF always",
        "file, fsync before confirm",
        partial(Redis, append_only=True),
        module="redis",
        program="redis",
    ),
    _system(
        "rabbitmq",
        "Dramatiq + RabbitMQ",
        "file, confirmed after a grouped write",
        RabbitMQ,
        module="pika",
        program="rabbitmq",
    ),
    _system(
        "celery",
        "Celery + Redis, late ack",
        "memory only",
        Redis,
        framework="celery",
        module="celery",
        program="redis",
    ),
    _system(
        "taskiq-nats",
        "taskiq + taskiq-nats",
        "file, fsync every 2 min",
        Nats,
        framework="taskiq",
        module="taskiq_nats",
    ),
    _system(
        "taskiq-nats-100",
        "taskiq + taskiq-nats, fetching 100",
        "file, fsync every 2 min",
        Nats,
        framework="taskiq",
        module="taskiq_nats",
    ),
)  # fmt: skip


def chosen(names: str | None) -> list[System]:
    """The systems of a comma-separated list of keys; all for None. Raises SystemExit for an unknown one."""
    if names is None:
        return list(SYSTEMS)
    keys = [name.strip() for name in names.split(",") if name.strip()]
    unknown = sorted(set(keys) - {system.key for system in SYSTEMS})
    if unknown or not keys:
        raise SystemExit(f"--only {names}: choose of {', '.join(system.key for system in SYSTEMS)}")
    return [system for system in SYSTEMS if system.key in keys]


def available(systems: list[System]) -> tuple[list[System], list[str]]:
    """(those that can run here, a sentence about each that cannot)."""
    absent, usable, notes = missing_programs(), [], []
    for system in systems:
        if system.program in absent:
            packages = " ".join(sorted(absent.values()))
            notes.append(f"{system.title} is left out: run `apt-get install -y {packages}` first.")
        elif system.module and find_spec(system.module) is None:
            notes.append(
                f"{system.title} is left out: {system.module} is missing; `make bench-broker` installs it."
            )
        else:
            usable.append(system)
    return usable, notes
