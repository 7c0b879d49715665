"""Numbers about jobs beside how many ended and how long they took: waiting, attempts, losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
FOUND = Counter("reconciler_findings_total", "What sweeps found that was not as it should be", ["found"])
BULKS = Gauge(
    "dead_letter_bulks", "Bulk jobs over dead letters that have not ended", ["state"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
BULK_LETTERS = Counter(
    "dead_letter_bulk_letters_total", "Letters that bulk jobs dealt with", ["act", "outcome"]
)

# From nought on, or an alert would not see the first one.
for _cause in ("unpublished", "overdue", "lost_workers"):
    SENT_AGAIN.labels(_cause)
for _act in ("replay", "discard"):
    for _outcome in ("done", "skipped", "failed"):
        BULK_LETTERS.labels(_act, _outcome)


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


def found(what: str, number: int) -> None:
    """Count what a sweep found; also nothing, or an alert would not see the first one."""
    FOUND.labels(what).inc(number)


def set_bulks(by_state: Mapping[str, int]) -> None:
    """How many bulk jobs wait, run and stand."""
    for state, number in by_state.items():
        BULKS.labels(state).set(number)


def bulk_settled(act: str, by_outcome: Mapping[str, int]) -> None:
    """Count the letters of a step of a bulk job; outcomes are done, skipped and failed."""
    for outcome, number in by_outcome.items():
        BULK_LETTERS.labels(act, outcome).inc(number)
