"""What the job rows say of each queue: what waits, what runs, what came and went lately."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.storage.postgres.tables import ACTIVE_STATES, Job

WINDOW = timedelta(minutes=5)


@dataclass(slots=True)
class Flow:
    """Jobs of one queue. `came`, `went` and, among these, `died` are those of the last `WINDOW`."""

    held: int = 0
    pending: int = 0
    running: int = 0
    retrying: int = 0
    oldest_waiting: datetime | None = None
    came: int = 0
    went: int = 0
    died: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A job that runs now."""

    job_id: str
    kind: str
    owner_id: str | None
    worker: str
    attempt: int
    started_at: datetime


@dataclass(slots=True)
class Flows:
    """By queue, and what runs by worker."""

    of: dict[str, Flow] = field(default_factory=dict)

    def queue(self, name: str) -> Flow:
        """The flow of a queue; of one without jobs, too."""
        return self.of.setdefault(name, Flow())


def flows(session: Session) -> Flows:
    """All queues that have, or lately had, jobs."""
    found = Flows()
    for row in session.execute(_active()):
        flow = found.queue(row.queue)
        flow.held, flow.pending = row.held, row.pending
        flow.running, flow.retrying, flow.oldest_waiting = row.running, row.retrying, row.oldest
    lately = func.now() - WINDOW
    for queue, number in session.execute(_number().where(Job.created_at > lately)):
        found.queue(queue).came = number
    ended = select(Job.queue, func.count(), func.count().filter(Job.state == "dead")).group_by(Job.queue)
    for queue, number, died in session.execute(ended.where(Job.finished_at > lately)):
        found.queue(queue).went, found.queue(queue).died = number, died
    return found


def running(session: Session, most: int = 500) -> list[Running]:
    """What runs now, the longest first."""
    columns = (Job.job_id, Job.kind, Job.owner_id, Job.worker, Job.attempt, Job.started_at)
    rows = session.execute(
        select(*columns).where(Job.state == "running").order_by(Job.started_at).limit(most)
    )
    return [_running(row) for row in rows]


def _running(row: Row[Any]) -> Running:
    return Running(str(row.job_id), row.kind, row.owner_id, row.worker or "", row.attempt, row.started_at)


def _active() -> Select[Any]:
    waits = Job.state == "pending"
    return (
        select(
            Job.queue,
            func.count().filter(waits, Job.held).label("held"),
            func.count().filter(waits, ~Job.held).label("pending"),
            func.count().filter(Job.state == "running").label("running"),
            func.count().filter(Job.state == "retrying").label("retrying"),
            func.min(Job.created_at).filter(waits).label("oldest"),
        )
        .where(Job.state.in_(ACTIVE_STATES))
        .group_by(Job.queue)
    )


def _number() -> Select[Any]:
    return select(Job.queue, func.count()).group_by(Job.queue)
