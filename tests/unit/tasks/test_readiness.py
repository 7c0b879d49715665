"""A pool is ready once it is warm and what its own jobs use answers; another part cannot hold it up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from app.container import Container
from app.jobs.pools import POOLS
from tasks.middleware import Readiness

PARTS = ("postgres", "schema", "qdrant", "s3", "nats", "tika")
USED = {
    "collections": {"postgres", "schema", "nats", "s3", "tika"},
    "datasets": {"postgres", "schema", "nats", "qdrant"},
    "visualizations": {"postgres", "schema", "nats", "qdrant", "s3"},
}
NOTHING: Any = None


@pytest.fixture
def away() -> set[str]:
    """The parts that do not answer."""
    return set()


@pytest.fixture(params=sorted(POOLS))
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def readiness(pool: str, port: int, away: set[str]) -> Iterator[Readiness]:
    def check(name: str) -> None:
        if name in away:
            raise ConnectionError(f"{name} refused")

    container = SimpleNamespace(
        settings=SimpleNamespace(health_check_port=port, health_check_host="127.0.0.1"),
        health_checks={name: lambda name=name: check(name) for name in PARTS},
        refresh_numbers=lambda: None,
        projection_runner=SimpleNamespace(warm=lambda: 0.0),
        close=lambda: None,
    )
    made = Readiness(cast("Container", container), pool)
    made.after_process_boot(NOTHING)
    yield made
    made.after_worker_shutdown(NOTHING, NOTHING)


def asked(port: int) -> tuple[int, Any]:
    answer = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=30)
    return answer.status_code, json.loads(answer.text)


def test_a_worker_is_not_ready_before_it_is_warm_nor_while_it_ends(readiness: Readiness, port: int):
    assert asked(port)[0] == 503
    worker: Any = SimpleNamespace(worker_threads=2)
    readiness.before_worker_boot(NOTHING, worker)
    assert asked(port)[0] == 200
    readiness.before_worker_shutdown(NOTHING, worker)
    assert asked(port)[0] == 503
    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200


@pytest.mark.parametrize("part", PARTS)
def test_a_pool_waits_for_what_it_uses_and_names_it(
    readiness: Readiness, port: int, away: set[str], pool: str, part: str
):
    readiness.before_worker_boot(NOTHING, cast("Any", SimpleNamespace(worker_threads=2)))
    away.add(part)
    status, told = asked(port)
    used = part in USED[pool]
    assert (status, told["down"]) == ((503, [part]) if used else (200, []))
    assert told["checks"].keys() == USED[pool]
