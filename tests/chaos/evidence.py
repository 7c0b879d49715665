"""What is there when all is quiet, asked of every server; and whether the metrics tell the same."""

from __future__ import annotations

import urllib.request
from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from brokers import dead_letter
from tests.chaos.checker import Evidence
from tests.chaos.isolation import look_around
from tests.chaos.load import REFUSED
from tests.chaos.world import World, opened, until

_RUNS = "SELECT kind, sum(attempt)::int, count(*) FILTER (WHERE state = 'succeeded') FROM jobs GROUP BY kind"
_FREE = ("interrupted", "put_off")


def gather(world: World) -> Evidence:
    """Look into the stores, and search for every marker."""
    points: dict[str, list[str]] = {}
    payloads: dict[str, set[str]] = {}
    with opened(world.environment) as container:
        for (name,) in world.rows("SELECT collection_name FROM embedded_datasets"):
            points[name], payloads[name] = [], set()
            for ids, _, stored in container.vectors.stream_vectors(name):
                points[name] += map(str, ids)
                payloads[name] |= {str(each.get("owner_id")) for each in stored}
        letters = dead_letter.list_dead(container.broker, 10_000)
        objects = [blob.key for blob in container.blobs.list("")]
    return Evidence(
        objects=objects,
        points=points,
        dead_letters=[str(one.message_id)[:36] for one in letters],
        letters_since=world.streams_lost_at or world.value("SELECT min(created_at) FROM jobs"),
        found=_found(world),
        refused_word=REFUSED,
        payloads=payloads,
        seen=look_around(world),
    )


def _found(world: World) -> set[str]:
    piles = {pile["collection_id"]: pile for pile in world.load.piles}
    return {
        marker
        for (collection, _), marker in world.load.judged().items()
        if marker is not None and world.load.search(piles[collection], marker)
    }


Runs = Counter[tuple[str, str]]  # (kind of job, "runs" or "succeeded") → how many


def runs_by_rows(world: World) -> Runs:
    """What the rows of the jobs say: attempts are counted when a run begins."""
    counts = Runs()
    for kind, begun, succeeded in world.rows(_RUNS):
        counts[kind, "runs"], counts[kind, "succeeded"] = begun, succeeded
    return counts


def runs_by_metrics(ports: list[int]) -> Runs:
    """What the workers' counters say; they begin at 0 with each process. What cost no attempt is left out."""
    counts = Runs()
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            families: Any = text_string_to_metric_families(answer.read().decode())
        for family in families:
            for sample in family.samples:
                if sample.name == "worker_jobs_total" and sample.labels["status"] not in _FREE:
                    kind, status = sample.labels["kind"], sample.labels["status"]
                    counts[kind, "runs"] += int(sample.value)
                    counts[kind, "succeeded"] += int(sample.value) if status == "success" else 0
    return counts


def compare_metrics(world: World, ports: list[int], before: tuple[Runs, Runs]) -> None:
    """Since `before` (rows, metrics), both must have counted the same; no worker was restarted meanwhile."""

    def difference() -> tuple[Runs, Runs]:
        return runs_by_rows(world) - before[0], runs_by_metrics(ports) - before[1]

    def agree() -> bool:
        rows, metrics = difference()
        return rows == metrics

    if not until(agree, seconds=20, pause=0.5):  # a counter moves just after its row
        rows, metrics = difference()
        world.violations.append(f"metrics disagree with rows: {dict(metrics - rows)}, {dict(rows - metrics)}")
