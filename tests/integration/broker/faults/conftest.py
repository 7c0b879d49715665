from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import topology
from tests.integration.broker.faults.processes import Processes
from tests.integration.broker.faults.proxy import TcpProxy
from tests.integration.broker.server import NatsCluster, NatsServer
from tests.integration.broker.workers import QUEUES, make_options, wait_until


@pytest.fixture
def processes(server: NatsServer, tmp_path: Path) -> Iterator[Processes]:
    """Producers and workers for the single server, whose streams are there."""
    topology.apply(make_options(server.url), QUEUES)
    processes = Processes(server.url, tmp_path)
    yield processes
    processes.stop()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path / "nats")
    try:
        cluster.start()
        wait_until(lambda: _has_streams(cluster), 60)  # three servers on a busy machine elect for seconds
        yield cluster
    finally:
        cluster.kill()


def _has_streams(cluster: NatsCluster) -> bool:
    try:
        topology.apply(make_options(cluster.url, replicas=3), QUEUES)
    except BrokerConnectionError:
        return False
    return True


@pytest.fixture
def clustered(cluster: NatsCluster, tmp_path: Path) -> Iterator[Processes]:
    """Producers and workers for a cluster of three, whose streams have three copies."""
    processes = Processes(cluster.url, tmp_path)
    yield processes
    processes.stop()


@pytest.fixture
def proxy(server: NatsServer) -> Iterator[TcpProxy]:
    proxy = TcpProxy(server.port)
    yield proxy
    proxy.close()
