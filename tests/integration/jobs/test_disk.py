"""How full JetStream's disk is: of the account, or of the server where the account has no limit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from app.config import Settings
from app.container import Container, build
from app.jobs import queue_depths
from app.observability import server_metrics
from brokers import JetStreamBroker, disk
from tests.integration.broker.server import NatsServer

MIB = 1024 * 1024
SERVER_BYTES = 3 * MIB


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with little room, and an account without a limit."""
    folder = tmp_path_factory.mktemp("nats")
    config = folder / "nats.conf"
    config.write_text("jetstream { max_file_store: 3MB }\n")
    server = NatsServer(folder / "store", "-c", str(config))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def monitoring(small: NatsServer) -> str:
    return f"http://127.0.0.1:{small.monitor_port}"


@pytest.fixture
def container(small: NatsServer, monitoring: str) -> Iterator[Container]:
    environment = {
        "NATS_URL": small.url,
        "NATS_MONITORING_URL": f"http://127.0.0.1:9, {monitoring}",  # one server of them does not answer
        "DATABASE_URL": "postgresql://nobody@/none",
    }
    made = build(Settings.from_env(environment))
    made.apply_topology(dry_run=False)
    yield made
    server_metrics.forget_nats()
    made.broker.close()


def number(name: str) -> float:
    found = REGISTRY.get_sample_value(name)
    assert found is not None
    return found


def test_where_the_account_has_no_limit_it_is_the_servers_that_counts(
    container: Container, monitoring: str, caplog: pytest.LogCaptureFixture
):
    session = container.broker.connection.session()
    container.broker.connection.run(session.publish("transforms.status.x", bytes(100_000), {}))
    assert disk.of_account(container.broker).limit_bytes is None
    assert disk.of_server(monitoring).limit_bytes == SERVER_BYTES
    with caplog.at_level(logging.WARNING):
        queue_depths.measure(container.broker, container.settings.nats_monitoring_url)
    assert "http://127.0.0.1:9" in caplog.text
    assert number("nats_jetstream_limit_bytes") == SERVER_BYTES
    assert 100_000 < number("nats_jetstream_used_bytes") < MIB


def test_a_page_that_is_not_jetstreams_is_said_to_be_none(monitoring: str):
    with pytest.raises(ValueError, match="tells nothing of JetStream"):
        disk.of_server(f"{monitoring}/varz?")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"storage": 5, "limits": {"max_storage": 10}}, disk.Disk(5, 10)),
        ({"storage": 5, "limits": {"max_storage": -1}}, disk.Disk(5, None)),
        (
            # As the server tells of an account whose limits are by replicas: its own are noughts.
            {
                "storage": 13,
                "limits": {"max_storage": 0},
                "tiers": {
                    "R1": {"storage": 9, "limits": {"max_storage": 10}},
                    "R3": {"storage": 4, "limits": {"max_storage": 100}},
                },
            },
            disk.Disk(9, 10),
        ),
        ({"storage": 0, "limits": {"max_storage": 0}}, disk.Disk(0, 0)),
    ],
)
def test_what_the_account_may_take_is_as_the_server_tells(told: dict[str, Any], expected: disk.Disk):
    session = SimpleNamespace(api=lambda _name: told)
    connection = SimpleNamespace(session=lambda: session, run=lambda answer: answer)
    broker = cast("JetStreamBroker", SimpleNamespace(connection=connection))
    assert disk.of_account(broker) == expected
