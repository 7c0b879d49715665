"""Every Prometheus metric of the product, and how it is fed.

Each process answers for itself: the web process at /metrics, a worker at its health port. Where several
share a port (gunicorn with more than one worker, dramatiq with more than one process), start them with
PROMETHEUS_MULTIPROC_DIR naming an empty folder: whoever is asked then adds up all of them.

What concerns jobs is in `job_metrics`, what concerns the servers behind us in `server_metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client import values as _values
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

# A series per label set that says when it began: nobody asks, and it would double what a pod exports.
disable_created_metrics()  # type: ignore[no-untyped-call]

# An alert asks for the share of answers within a second: 1.0 must be an edge. Routes are many, so few edges.
SECONDS_HTTP = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SECONDS_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SECONDS_LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)

HTTP_REQUESTS = Counter("http_requests_total", "Requests answered", ["method", "path", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds", "Time to answer", ["method", "path"], buckets=SECONDS_HTTP
)
BUILD_INFO = Gauge(
    "semantic_explorer_build_info", "1, with the version that runs", ["service", "version"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
DATABASE_QUERIES = Counter("database_query_total", "SQL statements", ["operation", "status"])
DATABASE_DURATION = Histogram(
    "database_query_duration_seconds", "Time of SQL statements", ["operation"], buckets=SECONDS_SHORT
)
STORAGE_DURATION = Histogram(
    "storage_operation_duration_seconds", "Time of S3 calls", ["operation", "status"], buckets=SECONDS_SHORT
)
WORKER_JOBS = Counter("worker_jobs_total", "Runs of jobs that ended", ["worker", "kind", "status"])
WORKER_DURATION = Histogram(
    "worker_job_duration_seconds", "Time of runs of jobs", ["worker", "kind", "status"], buckets=SECONDS_LONG
)
DEAD_LETTERS_OPEN = Gauge(
    "dead_letters_open", "Dead letters that nobody has dealt with", multiprocess_mode="mostrecent"
)
DEAD_LETTERS_EXPIRING = Gauge(
    "dead_letters_expiring_unread",
    "Of these, how many expire within three days and were never opened",
    multiprocess_mode="mostrecent",
)
SEARCH_DURATION = Histogram(
    "search_request_duration_seconds",
    "Time of searches, embedding included",
    ["status"],
    buckets=SECONDS_SHORT,
)
SSE_CONNECTIONS = Gauge("sse_connections_active", "Open event streams", multiprocess_mode="livesum")
STAGE_DURATION = Histogram(
    "pipeline_stage_duration_seconds",
    "Time of one stage (extraction, chunking, embedding, projection …) for one unit of work",
    ["stage", "status"],
    buckets=SECONDS_LONG,
)
M = TypeVar("M", Counter, Histogram)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@lru_cache(maxsize=4096)
def child(metric: M, *labels: str) -> M:
    """The series with these labels, of which there are few: the library takes longer to look one up."""
    return metric.labels(*labels)


def announce(service: str, version: str) -> None:
    """Say what runs here."""
    BUILD_INFO.labels(service, version).set(1)


def are_shared() -> bool:
    """Whether processes write into one folder, so that each can answer for all."""
    return bool(getattr(_values.ValueClass, "_multiprocess", False))


def forget_processes() -> None:
    """Empty the shared folder; for whoever starts the processes, before it does."""
    if are_shared():
        for file in Path(MultiProcessCollector(CollectorRegistry())._path).glob("*.db"):  # type: ignore[no-untyped-call]  # noqa: SLF001
            file.unlink(missing_ok=True)


def render() -> tuple[bytes, str]:
    """What a scrape gets: body and content type."""
    return generate_latest(_registry()), CONTENT_TYPE_LATEST


def observe_http(method: str, path: str, status: int, seconds: float) -> None:
    """Count an answered request; `path` is the route's pattern, never the address as typed."""
    method = method if method in _METHODS else "other"  # whoever asks may invent one
    child(HTTP_REQUESTS, method, path, str(status)).inc()
    child(HTTP_DURATION, method, path).observe(seconds)


def observe_job(worker: str, kind: str, status: str, seconds: float) -> None:
    """Count an ended run; `status` is success, failed, cancelled, interrupted or put_off."""
    WORKER_JOBS.labels(worker, kind, status).inc()
    WORKER_DURATION.labels(worker, kind, status).observe(seconds)


def observe_search(status: str, seconds: float) -> None:
    """Count a search; `status` is success or failed."""
    SEARCH_DURATION.labels(status).observe(seconds)


def set_dead_letters(*, open_letters: int, expiring_unread: int) -> None:
    """How many dead letters wait for somebody."""
    DEAD_LETTERS_OPEN.set(open_letters)
    DEAD_LETTERS_EXPIRING.set(expiring_unread)


@contextmanager
def storage_operation(operation: str) -> Iterator[None]:
    """Time one S3 call."""
    with _timed(STORAGE_DURATION, operation):
        yield


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage of the pipeline for one unit of work (a file, a batch, a map)."""
    with _timed(STAGE_DURATION, name):
        yield


@contextmanager
def sse_connection() -> Iterator[None]:
    """Count an event stream as open for the block."""
    SSE_CONNECTIONS.inc()
    try:
        yield
    finally:
        SSE_CONNECTIONS.dec()


def watch_engine(engine: Any) -> None:
    """Count and time every statement of this SQLAlchemy engine."""
    from sqlalchemy import event

    event.listen(engine, "before_cursor_execute", _statement_starts)
    event.listen(engine, "after_cursor_execute", _statement_ends)
    event.listen(engine, "handle_error", _statement_fails)


def _statement_starts(
    _connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: Any
) -> None:
    if context is not None:
        context.semantic_explorer_started = (time.perf_counter(), _operation(statement))


def _statement_ends(
    _connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: Any
) -> None:
    _count_statement(context, "success")


def _statement_fails(failure: Any) -> None:
    _count_statement(failure.execution_context, "failed")


def _count_statement(context: Any, status: str) -> None:
    started = getattr(context, "semantic_explorer_started", None)
    if started is None:
        return
    context.semantic_explorer_started = None
    child(DATABASE_DURATION, started[1]).observe(time.perf_counter() - started[0])
    child(DATABASE_QUERIES, started[1], status).inc()


@lru_cache(maxsize=1024)
def _operation(statement: str) -> str:
    """The statement's verb; what is rare shares one label."""
    word = statement.split(None, 1)[0].lower() if statement.strip() else ""
    return word if word in ("select", "insert", "update", "delete", "with") else "other"


@contextmanager
def _timed(histogram: Histogram, name: str) -> Iterator[None]:
    started, status = time.perf_counter(), "failed"
    try:
        yield
        status = "success"
    finally:
        histogram.labels(name, status).observe(time.perf_counter() - started)


def _registry() -> CollectorRegistry:
    if not are_shared():
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
