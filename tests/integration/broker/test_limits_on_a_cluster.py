"""Rate limits on three servers: exact under contention, and through the death of the bucket's leader."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import ContentionError, JetStreamRateLimiterBackend, topology
from tests.integration.broker.server import NatsCluster
from tests.integration.broker.workers import make_options, wait_until

DAY_MS = 86_400_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path / "cluster")
    cluster.start()
    yield cluster
    cluster.kill()


@pytest.fixture
def backends(cluster: NatsCluster) -> Iterator[list[JetStreamRateLimiterBackend]]:
    """Three processes' worth: each has a connection of its own."""
    options = make_options(cluster.url, replicas=3, publish_timeout_seconds=20.0)
    topology.apply(options, [])
    made = [JetStreamRateLimiterBackend(options) for _ in range(3)]
    yield made
    for backend in made:
        backend.close()


def test_limits_are_exact_on_a_replicated_bucket(backends: list[JetStreamRateLimiterBackend]) -> None:
    names = [f"skewed@{number}" for number in range(20)]

    def window(number: int) -> bool:
        return backends[number % 3].incr_and_sum(names[number], lambda: names, 1, 7, DAY_MS)

    def counter(number: int) -> bool:
        return backends[number % 3].incr("counter", 1, 7, DAY_MS)

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(window, range(20))) == 7
        assert sum(pool.map(counter, range(20))) == 7


def test_a_limit_holds_while_its_leader_dies(
    cluster: NatsCluster, backends: list[JetStreamRateLimiterBackend]
) -> None:
    admitted: list[int] = []
    unknown: list[Exception] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            try:
                if backends[number % 3].incr("fragile", 1, 200, DAY_MS):
                    admitted.append(number)
            except (BrokerConnectionError, ContentionError) as error:
                unknown.append(error)
            time.sleep(0.01)

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask, number) for number in range(6)]
        wait_until(lambda: len(admitted) > 20)
        cluster.leader_of("KV_transforms_limits").kill()
        before = len(admitted)
        wait_until(lambda: len(admitted) > before + 50, 60)
        wait_until(lambda: not backends[1].incr("fragile", 0, 199, DAY_MS), 60, "all places are taken")
        stop.set()
    for each in asking:
        each.result()
    # What failed may have been counted; so may, per thread, one whose answer died with the leader.
    assert 200 - len(unknown) - 6 <= len(admitted) <= 200
