"""Faults on the running product, and the schedule that a seed makes of them."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import nats

from devstack.product import ROOT, Product
from devstack.stack import Stack
from tests.support.providers import EmbeddingServer, Fault

WORKERS = ("collections", "datasets")
_PAUSE_SECONDS = 3.0


@dataclass(frozen=True)
class World:
    """What can be broken."""

    stack: Stack
    product: Product
    provider: EmbeddingServer
    environment: dict[str, str]


@dataclass(frozen=True)
class Planned:
    """One fault of a schedule: `at` is seconds after the start, `target` what the seed chose for it."""

    at: float
    fault: str
    target: str


def kill_worker(world: World, target: str) -> None:
    """F01: kill -9, and a supervisor that starts it again."""
    world.product.kill(target)
    time.sleep(0.5)
    world.product.restart_dead()


def roll_out(world: World, target: str) -> None:
    """F03: SIGTERM and a successor."""
    world.product.end(target)
    world.product.begin(target)


def freeze_worker(world: World, target: str) -> None:
    """F04: SIGSTOP, then SIGCONT."""
    world.product.kill(target, signal.SIGSTOP)
    time.sleep(_PAUSE_SECONDS)
    world.product.kill(target, signal.SIGCONT)


def kill_server(world: World, target: str) -> None:
    """F05, F09, F11, F12: kill -9 of a server, some seconds without it, a restart."""
    world.stack.kill(target)
    time.sleep(_PAUSE_SECONDS)
    world.stack.restart(target)


def delete_streams(world: World, target: str) -> None:
    """F07: an operator deletes the stream of a pool, then applies the topology."""
    asyncio.run(_delete(world.environment["NATS_URL"], target))
    subprocess.run(["/bin/sh", "-c", "flask --app wsgi streams apply"], cwd=ROOT, env=world.environment,
                   check=True, capture_output=True)  # fmt: skip


def fail_provider(world: World, target: str) -> None:
    """F13: the next answers of the embedding provider are wrong."""
    fault = Fault("status", 429, retry_after="1") if target == "429" else Fault(target)  # type: ignore[arg-type]
    world.provider.faults.extend([fault] * 3)


async def _delete(url: str, stream: str) -> None:
    connection = await nats.connect(url)
    try:
        await connection.jetstream().delete_stream(stream)
    finally:
        await connection.close()


FAULTS: dict[str, tuple[Callable[[World, str], None], tuple[str, ...]]] = {
    "F01 kill -9": (kill_worker, WORKERS),
    "F03 SIGTERM": (roll_out, WORKERS),
    "F04 SIGSTOP": (freeze_worker, WORKERS),
    "F05 NATS": (kill_server, ("nats",)),
    "F07 stream deleted": (delete_streams, ("COLLECTION_TRANSFORMS", "DATASET_TRANSFORMS")),
    "F09 Postgres": (kill_server, ("postgres",)),
    "F11 vectors": (kill_server, ("vector",)),
    "F12 S3": (kill_server, ("s3",)),
    "F13 provider": (fail_provider, ("429", "status", "hang", "garbage", "dimension")),
}


def schedule(seed: int, seconds: float, pause: float = 6.0) -> list[Planned]:
    """The faults of a seed, each of them once before any comes a second time."""
    dice = random.Random(seed)
    planned, at, left = [], pause, list[str]()
    while at < seconds:
        left = left or dice.sample(sorted(FAULTS), len(FAULTS))
        fault = left.pop()
        planned.append(Planned(at, fault, dice.choice(FAULTS[fault][1])))
        at += pause * dice.uniform(0.7, 1.3)
    return planned
