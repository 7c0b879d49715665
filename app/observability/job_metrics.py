"""Numbers about jobs beside how many ended and how long they took: waiting, attempts, losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from app.observability.metrics import SECONDS_LONG

WAIT = Histogram(
    "worker_job_wait_seconds", "From the message's publishing to the job's first start", ["worker"],
    buckets=SECONDS_LONG,
)  # fmt: skip
ATTEMPTS = Histogram(
    "worker_job_attempts", "Attempts of jobs that ended", ["worker", "status"], buckets=(1, 2, 3, 4, 5)
)
ACTIVE = Gauge("worker_jobs_active", "Jobs that run now", ["worker"], multiprocess_mode="livesum")
SLOTS = Gauge("worker_job_slots", "Jobs that may run at once", ["worker"], multiprocess_mode="livesum")
BURIED = Counter("dead_letters_total", "Messages given up", ["worker", "reason"])
PUBLISHED = Counter("jobs_published_total", "Messages sent for jobs", ["queue", "status"])
SENT_AGAIN = Counter("jobs_sent_again_total", "Jobs that the reconciler found lost", ["cause"])

# From nought on, or an alert would not see the first one.
for _cause in ("unpublished", "overdue", "lost_workers"):
    SENT_AGAIN.labels(_cause)


def expect_letters(worker: str, reasons: Iterable[str]) -> None:
    """Begin the counts of dead letters at nought."""
    for reason in reasons:
        BURIED.labels(worker, reason)


@contextmanager
def active(worker: str) -> Iterator[None]:
    """Count a job as running for the block."""
    ACTIVE.labels(worker).inc()
    try:
        yield
    finally:
        ACTIVE.labels(worker).dec()


def waited(worker: str, seconds: float) -> None:
    """Note how long a job's message waited."""
    WAIT.labels(worker).observe(max(0.0, seconds))


def ended(worker: str, status: str, attempts: int) -> None:
    """Note with how many attempts a job succeeded or was given up."""
    ATTEMPTS.labels(worker, status).observe(attempts)


def set_slots(worker: str, number: int) -> None:
    """How many jobs this process runs at once."""
    SLOTS.labels(worker).set(number)


def buried(worker: str, reason: str) -> None:
    """Count a dead letter; reasons are the broker's closed set."""
    BURIED.labels(worker, reason).inc()


def published(queue: str, status: str) -> None:
    """Count a message sent, or one that waits for the reconciler; `status` is success, refused or failed."""
    PUBLISHED.labels(queue, status).inc()


def sent_again(cause: str, number: int) -> None:
    """Count what a pass of the reconciler found."""
    if number:
        SENT_AGAIN.labels(cause).inc(number)
