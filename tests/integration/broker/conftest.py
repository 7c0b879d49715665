from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest

from brokers import BrokerOptions, JetStreamBroker, topology
from brokers.jetstream import broker as broker_module
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, StartWorker, Workers, make_options
from tests.support.folders import server_folder


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """`join` looks every tenth of a second, which is longer than most of these tests work."""
    monkeypatch.setattr(broker_module, "_JOIN_PAUSE_SECONDS", 0.02)


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with server_folder("explorer-nats-") as folder:
        server = NatsServer(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def options(server: NatsServer) -> BrokerOptions:
    options = make_options(server.url)
    topology.apply(options, QUEUES)
    return options


@pytest.fixture
def broker(options: BrokerOptions) -> Iterator[JetStreamBroker]:
    broker = JetStreamBroker(options, QUEUES)
    yield broker
    broker.close()


@pytest.fixture
def workers(options: BrokerOptions, server: NatsServer, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(server.url, tmp_path / "history")
    yield workers
    workers.stop_all()


@pytest.fixture
def start_worker(broker: JetStreamBroker) -> Iterator[StartWorker]:
    """Starts workers inside the test's own process."""
    started: list[dramatiq.Worker] = []

    def start(threads: int = 2) -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=100)
        worker.start()
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop(timeout=2000)
