"""The API is away only without what every request needs; else it says what it is without, and is calm."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from app.api import health, make_app

PARTS = ("postgres", "schema", "qdrant", "s3", "nats", "tika")
FEATURES = {
    "qdrant": "search and points",
    "s3": "uploads, downloads and maps",
    "nats": "live updates, and the start of jobs",
    "tika": "extraction of most file types",
}


@pytest.fixture
def away() -> set[str]:
    """The parts that do not answer."""
    return set()


@pytest.fixture
def client(away: set[str]) -> FlaskClient:
    def check(name: str) -> None:
        if name in away:
            raise ConnectionError(f"{name} refused")

    app = make_app("app.factory")
    app.register_api(health.api)
    health.register(app, {name: lambda name=name: check(name) for name in PARTS})  # type: ignore[misc]
    return app.test_client()


def ready(client: FlaskClient) -> tuple[int, Any]:
    answer = client.get("/health/ready")
    return answer.status_code, answer.json


@pytest.mark.parametrize("part", PARTS)
def test_the_part_that_is_away_is_named_with_the_features_that_wait(
    client: FlaskClient, away: set[str], part: str
):
    away.add(part)
    status, told = ready(client)
    feature = FEATURES.get(part)
    assert (status, told["status"]) == ((200, "degraded") if feature else (503, "unhealthy"))
    assert told["without"] == ([feature] if feature else [])
    states = {name: one["status"] for name, one in told["components"].items()}
    assert states == dict.fromkeys(PARTS, "healthy") | {part: "unhealthy"}
    assert f"{part} refused" in told["components"][part]["error"]


@pytest.mark.parametrize("part", ["postgres", "s3"])
def test_one_bad_answer_takes_nothing_away_and_one_good_one_brings_nothing_back(
    client: FlaskClient, away: set[str], part: str
):
    bad = (503, "unhealthy") if part == "postgres" else (200, "degraded")

    def judged() -> tuple[int, str, str]:
        status, told = ready(client)
        return status, told["status"], told["components"][part]["status"]

    assert judged() == (200, "healthy", "healthy")
    away.add(part)
    assert judged() == (200, "healthy", "failing")
    assert judged() == (*bad, "unhealthy")
    away.clear()
    assert judged() == (*bad, "unhealthy")
    assert judged() == (200, "healthy", "healthy")


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_whoever_asks_whether_it_lives_hears_nothing_of_others(
    client: FlaskClient, away: set[str], path: str
):
    away.update(PARTS)
    assert client.get(path).status_code == 200
