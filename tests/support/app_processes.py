"""The whole product in real processes on servers of its own: for e2e and browser tests."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.jobs.pools import POOLS
from devstack.client import Client, Pile
from devstack.product import Product
from devstack.stack import Stack, StackOptions
from tests.support.certificates import self_signed
from tests.support.folders import server_folder
from tests.support.spans import Spans, collecting_spans

_FAST = {
    # Retries of the real schedule would outlast a test; the schedule itself is tested with the broker.
    "RETRY_BACKOFF_SECS": "1,2,3,4",
    "RECONCILE_INTERVAL_SECS": "2",
    "PROVIDER_OPEN_SECS": "1",
    "QDRANT_TIMEOUT_SECS": "5",
    "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1",
    "ENCRYPTION_MASTER_KEY": "5e" * 32,
    "OTEL_BSP_SCHEDULE_DELAY": "1000",
}


class RunningApp:
    """A started product; `get`, `post` and friends are httpx with the right base."""

    def __init__(
        self, stack: Stack, product: Product, folder: Path, spans: Spans, health_ports: dict[str, int]
    ) -> None:
        self.health_ports = health_ports  # of the pools
        self.stack, self.product, self.folder, self.spans = stack, product, folder, spans
        self.base_url = product.base_url
        self.http = httpx.Client(base_url=product.base_url, timeout=60)
        self.client = Client(product.base_url)

    def close(self) -> None:
        self.http.close()
        self.client.close()

    def pile(self, title: str) -> Pile:
        """A collection with its dataset, local embedder and transforms."""
        pile = Pile(title=title, state_file=self.folder / f"{title}.json")
        self.client.make(pile)
        return pile

    def wait_for(self, what: str, ready: Callable[[], Any], *, seconds: float = 90) -> Any:
        """Poll until `ready` returns something true, and return that; fails with `what`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := ready():
                return answer
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds:.0f} s for {what}")

    def upload(self, collection_id: int, files: list[tuple[str, bytes]]) -> dict[str, Any]:
        """Multipart upload of (name, content)."""
        response = self.http.post(
            f"/api/collections/{collection_id}/files", files=[("files", one) for one in files]
        )
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def _authority(folder: Path) -> Path:
    """Whom Postgres' certificate would have to be from, if it had one: so that there is one that can end."""
    file = folder / "ca.pem"
    file.write_bytes(self_signed(timedelta(days=30)))
    return file


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def running_app() -> Iterator[RunningApp]:
    """Servers, web and the three pools; one per test session."""
    with (
        server_folder("explorer-app-") as folder,
        Stack(StackOptions(folder, durable=False)) as stack,
        collecting_spans() as spans,
    ):
        environment = {**stack.environment, **_FAST, "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url}
        environment["DATABASE_URL"] += f"?sslrootcert={_authority(folder)}"
        health = {pool: free_port() for pool in POOLS}
        with Product(environment, data_dir=folder, port=free_port(), health_ports=health) as product:
            app = RunningApp(stack, product, folder, spans, health)
            yield app
            app.close()
