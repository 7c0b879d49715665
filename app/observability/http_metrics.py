"""Counts, times and logs every answer of a Flask application; apart because workers have no Flask."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from app.observability import metrics

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from flask import Flask, Response


def install(app: Flask, excluded_endpoints: Collection[str] = ()) -> None:
    """Feed http_requests_total and http_request_duration_seconds, labelled with the route's pattern.

    `excluded_endpoints` are those whose time says nothing: event streams, health and metrics.
    """
    from flask import g, request

    def start() -> None:
        g.metrics_started = time.perf_counter()

    def observe(response: Response) -> Response:
        started = g.pop("metrics_started", None)
        if started is not None and request.endpoint not in excluded_endpoints:
            path = request.url_rule.rule if request.url_rule else "unmatched"
            seconds = time.perf_counter() - started
            metrics.observe_http(request.method, path, response.status_code, seconds)
            _tell(request.method, path, response.status_code, seconds)
        return response

    app.before_request(start)
    app.after_request(observe)


def _tell(method: str, route: str, status: int, seconds: float) -> None:
    """The route, not the address: what is in that may be a secret, or a lie."""
    fields = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 1)}
    _LOG.info("request answered", extra=fields)
