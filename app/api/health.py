"""/health: whether the process lives, and whether what it needs answers."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from app.api.openapi import answers
from app.api.replies import reply
from app.observability.health import Check, CheckResult, HealthChecks
from app.observability.logging import product_version
from app.security.marks import public

_EXTENSION = "health-checks"
# Without these no request can be served; without Tika only extraction waits.
_NEEDED = frozenset({"postgres", "qdrant", "s3", "nats"})

api = APIBlueprint("health", __name__, url_prefix="/health", abp_tags=[Tag(name="Health")])


class Component(BaseModel):
    """One server that we need: healthy, or unhealthy with the cause."""

    status: str
    latency_ms: float
    error: str | None = None


class Readiness(BaseModel):
    """healthy; degraded when something is away that requests do not need; unhealthy."""

    status: str
    version: str
    components: dict[str, Component]


def register(app: Flask, checks: Mapping[str, Check]) -> None:
    """Keep the checks; one instance, so that one that hangs is not started again and again."""
    app.extensions[_EXTENSION] = HealthChecks(checks)


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
    """Ask every server; 503 when one is away that requests need."""
    checks: HealthChecks = current_app.extensions[_EXTENSION]
    components = {name: _component(result) for name, result in checks.run().items()}
    down = {name for name, component in components.items() if component.status != "healthy"}
    status = "unhealthy" if down & _NEEDED else "degraded" if down else "healthy"
    body = Readiness(status=status, version=product_version(), components=components)
    return reply(body, 503 if status == "unhealthy" else 200)


def _component(result: CheckResult) -> Component:
    status = "healthy" if result.status == "up" else "unhealthy"
    return Component(status=status, latency_ms=result.latency_ms, error=result.error)
