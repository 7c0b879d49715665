"""/health: whether the process lives, and whether what it needs answers."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from app.api.openapi import answers
from app.api.replies import reply
from app.observability.health import Check, CheckResult, HealthChecks, Steady
from app.observability.logging import product_version
from app.security.marks import public

_EXTENSION = "health-checks"
# Without these no request can be served. Without another part one feature waits or fails; to send everybody
# away for that would take the rest from them, too.
_NEEDED = frozenset({"postgres", "schema"})
_FEATURES = {
    "qdrant": "search and points",
    "s3": "uploads, downloads and maps",
    "nats": "live updates, and the start of jobs",
    "tika": "extraction of most file types",
}

api = APIBlueprint("health", __name__, url_prefix="/health", abp_tags=[Tag(name="Health")])


class Component(BaseModel):
    """One part: healthy, failing (one bad answer is not enough to judge), or unhealthy; with the cause."""

    status: str
    latency_ms: float
    error: str | None = None


class Readiness(BaseModel):
    """healthy; degraded, without the features that are named; unhealthy when nothing can be answered."""

    status: str
    version: str
    without: list[str] = []
    components: dict[str, Component]


def register(app: Flask, checks: Mapping[str, Check]) -> None:
    """Keep the checks; one instance, so that one that hangs is not started again and again."""
    app.extensions[_EXTENSION] = (HealthChecks(checks), Steady())


@api.get("", responses=answers("text/plain"))
@public
def alive() -> Response:
    """Answer while the process lives, under the shortest name."""
    return Response("ok", mimetype="text/plain")


@api.get("/live", responses=answers("text/plain"))
@public
def live() -> Response:
    """Answer while the process lives."""
    return Response("ok", mimetype="text/plain")


@api.get("/ready", responses={200: Readiness, 503: Readiness})
@public
def ready() -> Response:
    """Ask every part; 503 when one is away without which nothing can be answered."""
    checks: HealthChecks
    steady: Steady
    checks, steady = current_app.extensions[_EXTENSION]
    results = checks.run()
    down = steady.judge(results)
    components = {name: _component(result, is_down=name in down) for name, result in results.items()}
    status = "unhealthy" if down & _NEEDED else "degraded" if down else "healthy"
    without = [feature for name, feature in _FEATURES.items() if name in down]
    body = Readiness(status=status, version=product_version(), without=without, components=components)
    return reply(body, 503 if status == "unhealthy" else 200)


def _component(result: CheckResult, *, is_down: bool) -> Component:
    status = "unhealthy" if is_down else "healthy" if result.status == "up" else "failing"
    return Component(status=status, latency_ms=result.latency_ms, error=result.error)
