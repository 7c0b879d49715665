"""Queues and workers on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import BaseModel, Field

from app.api.schemas.base import Body, Moment
from app.errors import InvalidInputError
from app.services.queues import LONGEST_PAUSE, Configured, QueueBoard, QueueView, Setting, WorkerView
from brokers.jetstream.recurring import Recurring


class QueuePath(BaseModel):
    """Names a queue."""

    queue: str


class QueuePauseBody(Body):
    """Why nothing of a queue is handed out, and how long: for so many `minutes`, or `until` a moment."""

    minutes: int | None = Field(None, ge=1, le=int(LONGEST_PAUSE.total_seconds() // 60))
    until: Moment | None = None
    reason: str

    def moment(self) -> datetime:
        """When it ends; raises InvalidInputError unless one of the two is given."""
        if self.until is not None and self.minutes is None:
            return self.until
        if self.minutes is None or self.until is not None:
            raise InvalidInputError("give one of minutes and until", field="minutes")
        return datetime.now(UTC) + timedelta(minutes=self.minutes)


class QueueEntry(BaseModel):
    """One queue. Jobs are counted in Postgres, messages by the broker; rates are of the last five minutes.

    `waiting` jobs include `held` ones, which have no message yet; `oldest_waiting_at` is when the oldest was
    recorded or its message stored.
    """

    queue: str
    pool: str
    workers: int
    threads: int
    waiting: int
    held: int
    running: int
    retrying: int
    oldest_waiting_at: datetime | None
    in_per_minute: float
    out_per_minute: float
    died_per_minute: float
    messages_ready: int
    messages_scheduled: int
    messages_in_flight: int
    messages_redelivered: int
    dead_letters: int
    paused_until: datetime | None
    pause_reason: str | None

    @classmethod
    def of(cls, view: QueueView) -> Self:
        """From the service's view."""
        jobs, messages, pause = view.jobs, view.messages, view.pause
        return cls(
            queue=view.pool.queue,
            pool=view.pool.name,
            workers=view.workers,
            threads=view.threads,
            waiting=jobs.pending + jobs.held,
            held=jobs.held,
            running=jobs.running,
            retrying=jobs.retrying,
            oldest_waiting_at=view.oldest,
            in_per_minute=view.per_minute(jobs.came),
            out_per_minute=view.per_minute(jobs.went),
            died_per_minute=view.per_minute(jobs.died),
            messages_ready=messages.ready,
            messages_scheduled=messages.scheduled,
            messages_in_flight=messages.in_flight,
            messages_redelivered=messages.redelivered,
            dead_letters=messages.dead,
            paused_until=pause.until if pause else None,
            pause_reason=pause.reason if pause else None,
        )


class WorkerRun(BaseModel):
    """A job that a worker runs."""

    job_id: str
    kind: str
    attempt: int
    started_at: datetime


class WorkerEntry(BaseModel):
    """A process at a queue; `holds` is null when it does not answer. Others' jobs are only counted."""

    name: str
    queue: str
    version: str | None
    threads: int | None
    since: datetime
    holds: int | None
    runs: list[WorkerRun]
    runs_of_others: int

    @classmethod
    def of(cls, view: WorkerView) -> Self:
        """From the service's view."""
        seen = view.seen
        runs = [
            WorkerRun(job_id=run.job_id, kind=run.kind, attempt=run.attempt, started_at=run.started_at)
            for run in view.runs
        ]
        return cls(
            name=seen.name,
            queue=seen.queue,
            version=seen.version,
            threads=seen.threads,
            since=seen.since,
            holds=seen.holds,
            runs=runs,
            runs_of_others=view.hidden,
        )


class QueueList(BaseModel):
    """All queues and workers at one moment."""

    queues: list[QueueEntry]
    workers: list[WorkerEntry]

    @classmethod
    def of(cls, board: QueueBoard) -> Self:
        """From the service's board."""
        return cls(
            queues=[QueueEntry.of(view) for view in board.queues],
            workers=[WorkerEntry.of(view) for view in board.workers],
        )


class ScheduleList(BaseModel):
    """What the server sends by the clock."""

    items: list[Recurring]


class ConfiguredEntry(BaseModel):
    """A stream or consumer: what this release asks for and, where it `differs`, what the server has."""

    kind: str
    name: str
    missing: bool
    drifts: bool
    settings: list[Setting]

    @classmethod
    def of(cls, one: Configured) -> Self:
        """From the service's view."""
        return cls(
            kind=one.kind,
            name=one.name,
            missing=one.missing,
            drifts=one.drifts,
            settings=list(one.settings),
        )


class ConfigurationReply(BaseModel):
    """All streams and consumers; `drifts` where `flask streams apply` would change one."""

    drifts: bool
    items: list[ConfiguredEntry]
