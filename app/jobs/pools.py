"""Pools: which processes read which queues. Procfile and chart are held to this list by tests."""

from __future__ import annotations

from dataclasses import dataclass

from app.jobs.contracts import COLLECTIONS, DATASETS, VISUALIZATIONS


@dataclass(frozen=True, slots=True)
class Pool:
    """One deployment of workers."""

    name: str
    queue: str
    stream: str
    threads: int  # default of MAX_CONCURRENT_JOBS
    grace_seconds: int  # for running jobs on SIGTERM
    ack_wait_seconds: int  # only detects dead workers; a heartbeat renews it


POOLS: dict[str, Pool] = {
    pool.name: pool
    for pool in (
        Pool("collections", COLLECTIONS, "COLLECTION_TRANSFORMS", 10, 30, 600),
        Pool("datasets", DATASETS, "DATASET_TRANSFORMS", 10, 30, 600),
        Pool("visualizations", VISUALIZATIONS, "VISUALIZATION_TRANSFORMS", 3, 300, 1800),
    )
}


def stream_of(queue: str) -> str:
    """The stream on which a queue's messages wait. Raises KeyError for a queue of nobody."""
    return {pool.queue: pool.stream for pool in POOLS.values()}[queue]
