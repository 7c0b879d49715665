"""On three servers every stream of the guide has three copies, each on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from app.jobs.pools import POOLS
from brokers import QueueSpec, topology
from tests.integration.broker.server import NatsCluster
from tests.integration.broker.workers import make_options, wait_until
from tests.support.stack import run_apart

STREAMS = {*(pool.stream for pool in POOLS.values()), "DLQ_TRANSFORMS", "TRANSFORM_STATUS"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path / "cluster")
    cluster.start()
    yield cluster
    cluster.kill()


async def servers_of_streams(url: str) -> dict[str, set[str]]:
    """Stream to the servers that keep it."""
    client = await nats.connect(url.split(",", maxsplit=1)[0])
    js = client.jetstream()
    found = {}
    for stream in STREAMS:
        info: Any = (await js.stream_info(stream)).cluster
        found[stream] = {info.leader, *(one.name for one in info.replicas)}
    await client.close()
    return found


def test_every_stream_of_the_guide_is_on_three_servers(cluster: NatsCluster):
    queues = [
        QueueSpec(name=one.queue, stream=one.stream, ack_wait_seconds=one.ack_wait_seconds)
        for one in POOLS.values()
    ]
    topology.apply(make_options(cluster.url, replicas=3), queues)

    def kept() -> dict[str, int]:
        found = run_apart(servers_of_streams, cluster.url)
        return {stream: len(servers) for stream, servers in found.items()}

    wait_until(lambda: kept() == dict.fromkeys(STREAMS, 3), what=f"three copies: {kept()}")  # after elections
