"""`make chaos SEED=1 MINUTES=5`: the product under faults; exit code 1 if a job was lost or done twice."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg2

from app.config import Settings
from app.container import build
from brokers import dead_letter
from devstack.client import Client, Pile
from devstack.product import Product
from devstack.stack import Stack, StackOptions
from tests.chaos.checker import Verdict, check
from tests.chaos.faults import FAULTS, Planned, World, schedule
from tests.chaos.load import Load
from tests.support.app_processes import _FAST, free_port
from tests.support.providers import embedding_server
from tests.support.stores import Stores

_STUCK_SECONDS, _MOST_SECONDS = 10.0, 300.0
# Waiting until the reconciler may step in would take 15 minutes and more: the rows are made older instead.
_AGE = """UPDATE jobs SET expected_by = expected_by - interval '1 day',
    started_at = started_at - interval '1 day', updated_at = updated_at - interval '1 day'
    WHERE finished_at IS NULL"""


def main() -> int:
    """Run one seed."""
    seed, minutes = int(_setting("SEED", "1")), float(_setting("MINUTES", "5"))
    planned = schedule(seed, minutes * 60)
    print(f"seed {seed}, {minutes:g} minutes, {len(planned)} faults")
    for one in planned:
        print(f"  {one.at:6.1f} s  {one.fault} ({one.target})", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        embedding_server(dimensions=8) as provider,
        Stack(StackOptions(Path(folder), durable=False)) as stack,
    ):
        environment = {**stack.environment, **_FAST}
        with Product(environment, data_dir=Path(folder), port=free_port()) as product:
            world = World(stack, product, provider, product._environment)
            load = Load(product.base_url, _piles(product.base_url, provider.openai_url, folder), seed)
            load.start()
            recoveries = _inject(world, planned)
            load.stop()
            provider.faults.clear()
            product.restart_dead()
            _settle(environment)
            verdict = _judge(environment, load)
    print(f"accepted {load.accepted}, refused {load.refused}, unsure names {len(load.unsure)}")
    for one, seconds in recoveries:
        print(f"  {one.fault} ({one.target}): jobs end again {seconds:.1f} s after it healed")
    print(verdict)
    return 1 if verdict.lost or verdict.doubled else 0


def _setting(name: str, default: str) -> str:
    return os.environ.get(name) or default  # noqa: TID251 - a tool, not the product


def _piles(base_url: str, provider_url: str, folder: str) -> list[dict[str, int]]:
    client = Client(base_url)
    embedder = {"name": "stub", "provider": "openai", "base_url": provider_url, "api_key": "sk-chaos",
                "config": {"model": "stub"}, "dimensions": 8, "batch_size": 16}  # fmt: skip
    embedder_id = client.post("/api/embedders", embedder)["embedder_id"]
    client._embedder_id = lambda: embedder_id  # type: ignore[method-assign]
    piles = [Pile(f"Pile {number}", Path(folder) / f"{number}.json") for number in range(2)]
    for pile in piles:
        client.make(pile)
    client.close()
    return [pile.ids for pile in piles]


def _inject(world: World, planned: list[Planned]) -> list[tuple[Planned, float]]:
    began, recoveries = time.monotonic(), []
    for one in planned:
        time.sleep(max(0.0, began + one.at - time.monotonic()))
        FAULTS[one.fault][0](world, one.target)
        world.product.restart_dead()
        recoveries.append((one, _until_a_job_ends(world.environment)))
    return recoveries


def _until_a_job_ends(environment: dict[str, str]) -> float:
    began = time.monotonic()
    before = _succeeded(environment)
    while _succeeded(environment) == before and time.monotonic() - began < 30:
        time.sleep(0.2)
    return time.monotonic() - began


def _succeeded(environment: dict[str, str]) -> int:
    return _number(environment, "SELECT count(*) FROM jobs WHERE state = 'succeeded'")


def _number(environment: dict[str, str], statement: str) -> int:
    return Stores(environment).number(statement)


def _settle(environment: dict[str, str]) -> None:
    """Wait until no job is active; make those that stand still look old, so that the reconciler acts now."""
    began = moved = time.monotonic()
    last: Any = None
    while time.monotonic() - began < _MOST_SECONDS:
        left = _number(environment, "SELECT count(*) FROM jobs WHERE finished_at IS NULL")
        if not left:
            return
        now = (left, _succeeded(environment))
        if now != last:
            last, moved = now, time.monotonic()
        elif time.monotonic() - moved > _STUCK_SECONDS:
            with psycopg2.connect(environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
                cursor.execute(_AGE)
            connection.close()
            moved = time.monotonic()
        time.sleep(0.5)


def _judge(environment: dict[str, str], load: Load) -> Verdict:
    container = build(Settings.from_env(environment))
    try:
        with psycopg2.connect(environment["DATABASE_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT collection_name FROM embedded_datasets")
            names = [name for (name,) in cursor.fetchall()]
        connection.close()
        points = {
            name: [str(each) for ids, _, _ in container.vectors.stream_vectors(name) for each in ids]
            for name in names
        }
        letters = [str(one.message_id)[:36] for one in dead_letter.list_dead(container.broker, 10_000)]
        objects = [blob.key for blob in container.blobs.list("")]
    finally:
        container.close()
        container.broker.close()
    return check(
        environment["DATABASE_URL"], load.judged(), objects=objects, points=points, dead_letters=letters
    )


if __name__ == "__main__":
    sys.exit(main())
