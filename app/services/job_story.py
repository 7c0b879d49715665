"""The life of a job as its row tells it, for people: what happened when, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.jobs.policy import MAX_ATTEMPTS
from app.storage.postgres.tables import Job

Mood = Literal["", "accent", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened, or is going to, and how good that is. `at` is None for what goes on now."""

    at: datetime | None
    what: str
    note: str = ""
    mood: Mood = ""


def story(job: Job, now: datetime) -> list[Moment]:
    """From the recording of a job to where it stands; times are the database's."""
    return [*_begin(job), *_middle(job), _end(job, now)]


def _begin(job: Job) -> Iterator[Moment]:
    yield Moment(job.created_at, "Recorded", f"for queue {job.queue}")
    if job.published_at is not None:
        again = f"for the {_nth(job.publication + 1)} time" if job.publication else ""
        yield Moment(job.published_at, "Sent as a message", again)


def _middle(job: Job) -> Iterator[Moment]:
    if job.started_at is not None:
        attempt = f"attempt {job.attempt} of {MAX_ATTEMPTS} on {job.worker or 'an unknown worker'}"
        yield Moment(job.started_at, "Started", attempt, "accent")


def _end(job: Job, now: datetime) -> Moment:
    if job.state == "pending":
        return _waits(job, now)
    if job.state == "running":
        return Moment(None, "Runs", "", "accent")
    if job.state == "retrying":
        return Moment(job.updated_at, "Failed, will be tried again", _error(job), "warn")
    if job.state == "dead":
        return Moment(job.finished_at, "Given up", _error(job), "bad")
    if job.state == "cancelled":
        return Moment(job.finished_at, "Cancelled")
    return Moment(job.finished_at, "Done", str(job.outcome.get("skipped", "")), "good")


def _waits(job: Job, now: datetime) -> Moment:
    if job.not_before is not None and job.not_before > now:
        return Moment(job.not_before, "Starts then", "somebody put it off", "accent")
    held = "in Postgres, until the queue has room for its owner" if job.held else "for a worker"
    return Moment(None, "Waits", held)


def _error(job: Job) -> str:
    return f"{job.error_code or 'error'}: {job.error_message or 'no cause was noted'}"


def _nth(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
