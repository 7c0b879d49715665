from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.broker import Broker

from brokers import JetStreamBroker, JetStreamStubBroker, topology
from brokers.jetstream import broker as broker_module
from tests.contract.broker.harness import (
    EVERY_BROKER,
    QUEUES,
    Run,
    StartWorker,
    empty,
    make_broker,
    options_for,
)
from tests.integration.broker.server import NatsCluster, NatsServer


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """`join` looks every tenth of a second, which is longer than most of these tests work."""
    monkeypatch.setattr(broker_module, "_JOIN_PAUSE_SECONDS", 0.02)


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    topology.apply(options_for(server.url), QUEUES)
    yield server.url
    server.kill()


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cluster = NatsCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    topology.apply(options_for(cluster.url, replicas=3), QUEUES)
    yield cluster.url
    cluster.kill()


@pytest.fixture(params=EVERY_BROKER)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    served = request.param in {"server", "cluster"}
    url = request.getfixturevalue(f"{request.param}_url") if served else None
    replicas = 3 if request.param == "cluster" else 1
    made = make_broker(request.param, url, replicas=replicas)
    if isinstance(made, JetStreamBroker) and not isinstance(made, JetStreamStubBroker):
        empty(made)
    yield made
    made.close()


@pytest.fixture
def start_worker(broker: Broker) -> Iterator[StartWorker]:
    started: list[dramatiq.Worker] = []

    def start(threads: int = 2) -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=20)
        worker.queue_prefetch = 4
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop(timeout=2000)


@pytest.fixture
def run(broker: Broker, start_worker: StartWorker) -> Run:
    """Work until queue "default" is empty."""
    workers: list[dramatiq.Worker] = []

    def start_and_drain() -> None:
        if not workers:
            workers.append(start_worker())
        broker.join("default", timeout=40_000)
        workers[0].join()

    return start_and_drain
