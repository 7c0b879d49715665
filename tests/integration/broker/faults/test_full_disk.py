"""No room at the server: an enqueue says so, workers go on, and nothing that was stored is lost."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import JetStreamBroker, PublishRefusedError, inspect, topology
from brokers.jetstream import overdue
from tests.integration.broker.faults.history import Kind
from tests.integration.broker.faults.processes import Processes
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until

_LIMITED = """
accounts { APP { jetstream { max_file: 150KB }, users: [ { user: app, password: app } ] } }
no_auth_user: app
"""
_SMALL = "jetstream { max_file_store: 20KB }\n"
_UNLIMITED = "jetstream { max_file_store: 1GB }\n"  # more than there is: the disk decides


def serve(store: Path, configuration: Path, text: str) -> NatsServer:
    configuration.write_text(text)
    server = NatsServer(store, "-c", str(configuration))
    server.start()
    topology.apply(make_options(server.url), QUEUES)
    return server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system; the account's limit has its own test")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def server(small_disk: Path, tmp_path: Path) -> Iterator[NatsServer]:
    """A server that keeps its files on the small disk."""
    server = serve(small_disk / "nats", tmp_path / "nats.conf", _UNLIMITED)
    yield server
    server.kill()


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Processes]:
    """Processes of an account that may store little."""
    server = serve(tmp_path / "nats", tmp_path / "nats.conf", _LIMITED)
    processes = Processes(server.url, tmp_path)
    yield processes
    processes.stop()
    server.kill()


def fill(ballast: Path) -> None:
    """Use up the last byte of a disk."""
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 512):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def refusals(processes: Processes) -> list[str]:
    return [event.detail for event in processes.history.read() if event.kind is Kind.REFUSED]


def test_an_account_over_its_storage_limit_refuses_in_words_and_loses_nothing(limited: Processes) -> None:
    producer = limited.producer(600, rate=1000, seconds=0.005)
    limited.wait_for(Kind.REFUSED, 2)
    limited.worker()  # retries and dead letters find no room either, at first
    limited.worker()
    limited.finished(producer)
    report = limited.drained()
    assert report.bad == []
    assert any("resource limits exceeded for account" in text for text in refusals(limited))
    assert len(report.findings) == 600


def test_a_server_over_its_storage_limit_is_not_said_to_be_away(tmp_path: Path) -> None:
    server = serve(tmp_path / "nats", tmp_path / "nats.conf", _SMALL)
    broker = JetStreamBroker(make_options(server.url, publish_timeout_seconds=2.0), QUEUES)
    with pytest.raises(BrokerConnectionError, match=r"says no for now .*insufficient resources"):
        while True:
            broker.enqueue(message("job", "x" * 2000))
    broker.close()
    server.kill()


def test_a_delayed_message_that_found_no_room_when_it_was_due_is_nudged_once(
    limited: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = JetStreamBroker(make_options(limited.url), QUEUES)
    broker.enqueue(message("job"), delay=500)
    broker.enqueue(message("job"), delay=3_600_000)
    for size in (2000, 1):  # to the last byte
        with pytest.raises(PublishRefusedError, match="resource limits exceeded"):
            while True:
                broker.enqueue(message("job", "x" * size))
    time.sleep(1)
    session, spec = broker.connection.session(), QUEUES[0]
    broker.connection.run(session.api("STREAM.PURGE.QUICK", {"filter": "transforms.ready.quick"}))
    walk = overdue.Overdue(session, spec)
    assert broker.connection.run(walk.nudge(datetime.now(UTC))) == 0  # it may still fire by itself
    monkeypatch.setattr(overdue, "OVERDUE", timedelta(0))
    found = broker.connection.run(overdue.Overdue(session, spec)._following())
    assert found is not None
    assert broker.connection.run(overdue.Overdue(session, spec).nudge(datetime.now(UTC))) == 1
    assert broker.connection.run(walk._fire(found, datetime.now(UTC))) is False  # another worker was first
    wait_until(lambda: inspect.depths(broker)[0] == inspect.QueueDepth("quick", 1, 1, 0, 0))
    broker.close()


def test_a_full_disk_refuses_what_it_cannot_store_and_loses_nothing(
    processes: Processes, server: NatsServer, small_disk: Path
) -> None:
    processes.worker()
    processes.worker()
    producer = processes.producer(500, rate=100)
    processes.wait_for(Kind.END, 50)
    fill(small_disk / "ballast")
    processes.wait_for(Kind.REFUSED, 2)
    (small_disk / "ballast").unlink()
    server.kill()  # a stream that could not be written stays closed until its server is started again
    server.start()
    processes.finished(producer)
    report = processes.drained()
    assert report.bad == []
    assert all("does not answer" in text for text in refusals(processes))
    assert len(report.findings) == 500
