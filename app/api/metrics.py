"""Requests counted and timed, and the page from which Prometheus reads."""

from __future__ import annotations

from flask import Flask, Response, abort, request

from app.api.context import container
from app.observability import http_metrics
from app.observability.metrics import render
from app.security.marks import public

# Their time says nothing about how quick answers are.
_UNTIMED = frozenset(
    {
        "collection_transforms.stream_collection_transforms",
        "dataset_transforms.stream_dataset_transforms",
        "visualization_transforms.stream_visualization_transforms",
        "events.stream_events",
        "health.alive",
        "health.live",
        "health.ready",
        "metrics",
    }
)


def register(app: Flask) -> None:
    """Serve /metrics and measure every other request by its route."""
    http_metrics.install(app, _UNTIMED)
    app.add_url_rule("/metrics", "metrics", _metrics)


# What a proxy adds. Prometheus comes without: it asks the pod itself.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


@public
def _metrics() -> Response:
    if any(name in request.headers for name in _FORWARDED):
        abort(403, "metrics are for whoever reaches this server directly")
    container().refresh_numbers()
    body, content_type = render()
    return Response(body, content_type=content_type)
