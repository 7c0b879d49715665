from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from app.container import Container, build
from app.errors import ProviderPausedError, ProviderUnavailableError
from app.observability.metrics import render
from app.security.outbound import OutboundOptions
from app.services import provider_client
from app.services.provider_client import Fleet, ProviderClient
from app.storage.postgres.tables import ProviderCircuit
from tests.support.providers import EmbeddingServer, Fault, embedding_server

BODY = {"model": "stub", "input": ["hello"]}


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


def client_of(container: Container, **limits: int) -> ProviderClient:
    fleet = Fleet(
        container.provider_circuits, container.rate_limits, lambda: container.provider_slots, **limits
    )
    return ProviderClient(OutboundOptions(allowed_hosts=("127.0.0.1",)), fleet)


@pytest.fixture
def client(container: Container) -> Iterator[ProviderClient]:
    made = client_of(container)
    yield made
    made.close()


def call(client: ProviderClient, server: EmbeddingServer, *, key: str = "sk-1") -> int:
    url, headers = f"{server.openai_url}/embeddings", {"Authorization": f"Bearer {key}"}
    return client.request("POST", url, json=BODY, headers=headers, timeout_seconds=20.0).status


def fail(client: ProviderClient, server: EmbeddingServer, times: int) -> None:
    server.faults.extend([Fault("close"), *[Fault("status", status=500)] * (times - 1)])
    with pytest.raises(ProviderUnavailableError, match="no usable answer"):
        call(client, server)
    assert [call(client, server) for _ in range(times - 1)] == [500] * (times - 1)


def circuit(container: Container) -> ProviderCircuit | None:
    with container.database.transaction() as session:
        return session.scalars(select(ProviderCircuit)).one_or_none()


def pass_time(container: Container) -> None:
    with container.database.transaction() as session:
        session.execute(text("UPDATE provider_circuits SET open_until = clock_timestamp()"))


def test_a_provider_that_fails_five_times_is_left_alone_by_every_process(
    container: Container, client: ProviderClient, server: EmbeddingServer
):
    fail(client, server, 4)
    assert call(client, server) == 200  # in a row, not altogether
    fail(client, server, 5)
    asked = len(server.requests)
    other = build(container.settings)
    elsewhere = client_of(other)
    for one in (client, elsewhere):
        with pytest.raises(
            ProviderPausedError, match=r"answered 500, 5 times in a row.*next try in \d+ s"
        ) as told:
            call(one, server)
        assert told.value.retry_after_seconds == pytest.approx(30, abs=10)
    assert len(server.requests) == asked
    assert call(elsewhere, server, key="sk-2") == 200  # with a key of one's own one is somebody else
    container.provider_circuits.measure()
    assert b"provider_circuits_open 1.0" in render()[0]
    elsewhere.close()
    other.close()


def test_one_call_probes_and_what_comes_of_it_holds_for_all(
    container: Container, client: ProviderClient, server: EmbeddingServer
):
    fail(client, server, 5)
    pass_time(container)
    server.faults.append(Fault("slow", seconds=1.0))
    probe = threading.Thread(target=call, args=(client, server))
    probe.start()
    wait_until(lambda: server.slowed)
    with pytest.raises(ProviderPausedError):  # while somebody probes
        call(client, server)
    probe.join()
    assert circuit(container) is None
    fail(client, server, 5)
    for seconds in (60, 120):
        pass_time(container)
        fail(client, server, 1)
        row = circuit(container)
        assert row is not None
        assert row.open_seconds == seconds
        with pytest.raises(ProviderPausedError):
            call(client, server)


def test_who_says_when_to_come_back_is_asked_then_and_has_not_failed(
    container: Container, client: ProviderClient, server: EmbeddingServer
):
    server.faults.append(Fault("status", status=429, retry_after="40"))
    assert call(client, server) == 429
    with pytest.raises(ProviderPausedError, match="asked us to wait") as told:
        call(client, server)
    assert told.value.retry_after_seconds == pytest.approx(40, abs=10)
    pass_time(container)
    assert call(client, server) == 200
    server.faults.extend([Fault("status", status=429)] * 6)
    assert {call(client, server) for _ in range(6)} == {429}
    assert call(client, server) == 200


def test_calls_to_one_provider_are_few_at_a_time_and_few_per_minute(
    container: Container, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(provider_client, "_SLOT_PATIENCE_SECONDS", 0.2)
    one, other = client_of(container, most_at_once=1), client_of(container, most_at_once=1)
    server.faults.append(Fault("slow", seconds=2.0))
    first = threading.Thread(target=call, args=(one, server))
    first.start()
    wait_until(lambda: server.slowed)
    with pytest.raises(ProviderPausedError, match=r"1 calls to 127\.0\.0\.1 are under way"):
        call(other, server)
    assert call(other, server, key="sk-2") == 200
    first.join()
    assert call(other, server) == 200
    metered = client_of(container, per_minute=2)
    assert [call(metered, server, key="sk-3") for _ in range(2)] == [200, 200]
    with pytest.raises(ProviderPausedError, match="PROVIDER_REQUESTS_PER_MINUTE") as told:
        call(metered, server, key="sk-3")
    assert told.value.retry_after_seconds is not None
    for each in (one, other, metered):
        each.close()


def wait_until(happened: Any) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
