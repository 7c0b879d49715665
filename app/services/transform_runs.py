"""Runs of collection and dataset transforms: a plan, and the jobs that it asked for, with how far they are.

A run counts each file or item once. What a later run asks for anew while it is still to be done belongs to
that one from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.jobs.contracts import Contract, PlanCollectionTransform, PlanDatasetTransform
from app.security.principal import Principal
from app.services.paging import Page, check_window
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pace import Progress, progress, rate_of
from app.storage.postgres.queries.run_progress import is_of_note, plans, run_counts
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ACTIVE_STATES, CollectionTransform, DatasetTransform, Job

RunStatus = Literal["planning", "processing", "completed", "completed_with_errors", "failed", "cancelled"]
TransformType = Literal["collection", "dataset"]

_PLANS: dict[TransformType, type[Contract]] = {
    "collection": PlanCollectionTransform,
    "dataset": PlanDatasetTransform,
}
_UNITS: dict[TransformType, str] = {"collection": "files", "dataset": "items"}
_NEWEST_FIRST = (Key("created_at", Job.created_at, descending=True), Key("run_id", Job.job_id))


@dataclass(frozen=True, slots=True)
class TransformRun:
    """One run; `run_id` is the id of its plan's job.

    `status` is planning while more may be found to do, then processing until all is done, failed or
    cancelled. `skipped` are those of the done of which nothing was to be done any more, as they were deleted
    or replaced, or the transform was disabled. `error_message` says why the plan itself failed.
    """

    run_id: UUID
    status: RunStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_message: str | None
    jobs: int
    skipped: int
    progress: Progress  # in files, or in items, once for each embedder


@dataclass(frozen=True, slots=True)
class TransformRuns:
    """Verbs on runs; those of maps are visualizations."""

    database: Database

    def list(
        self,
        principal: Principal,
        kind: TransformType,
        transform_id: int,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[TransformRun]:
        """The runs of a transform, newest first, without plans that found nothing; raises NotFoundError."""
        check_window(limit, offset)
        with self.database.transaction() as session:
            _check(session, kind, transform_id, principal.owner_id)
            statement = plans(_PLANS[kind].kind, transform_id, principal.owner_id).where(is_of_note())
            rows, total, following = keyed_page(
                session, statement, _NEWEST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(_runs(session, rows, _UNITS[kind]), total, limit, offset, following)

    def get(self, principal: Principal, kind: TransformType, transform_id: int, run_id: UUID) -> TransformRun:
        """One run; raises NotFoundError."""
        with self.database.transaction() as session:
            _check(session, kind, transform_id, principal.owner_id)
            statement = plans(_PLANS[kind].kind, transform_id, principal.owner_id)
            row = session.execute(statement.where(Job.job_id == run_id)).one_or_none()
            if row is None:
                raise NotFoundError(f"no run {run_id} of {kind} transform {transform_id}")
            return _runs(session, [tuple(row)], _UNITS[kind])[0]


def _check(session: Session, kind: TransformType, transform_id: int, owner_id: str) -> None:
    if kind == "collection":
        owned(session, CollectionTransform, transform_id, owner_id)
    else:
        owned(session, DatasetTransform, transform_id, owner_id)


def _runs(session: Session, rows: Sequence[tuple[Any, ...]], unit: str) -> tuple[TransformRun, ...]:
    counts = {row.planned_by: row for row in session.execute(run_counts([row[0] for row in rows]))}
    return tuple(_run(row, counts.get(row[0]), unit) for row in rows)


def _run(plan: tuple[Any, ...], counts: Any, unit: str) -> TransformRun:
    run_id, state, created_at, started_at, finished_at, error_message = plan
    done = _progress(unit, counts)
    status = _status(state, done)
    last = max(filter(None, [finished_at, counts and counts.last_finished]), default=None)
    return TransformRun(
        run_id=run_id,
        status=status,
        created_at=created_at,
        started_at=started_at,
        finished_at=None if status in {"planning", "processing"} else last,
        error_message=error_message,
        jobs=counts.jobs if counts else 0,
        skipped=int(counts.skipped) if counts else 0,
        progress=done,
    )


def _progress(unit: str, counts: Any) -> Progress:
    if counts is None:
        return progress(unit, total=0, done=0)
    return progress(
        unit,
        total=int(counts.total),
        done=int(counts.ended_well - counts.refused),
        failed=int(counts.dead + counts.cancelled + counts.refused),
        cancelled=int(counts.cancelled),
        running=int(counts.running),
        rate=rate_of(counts.recent, counts.seconds),
    )


def _status(plan_state: str, done: Progress) -> RunStatus:
    if plan_state in ACTIVE_STATES:
        return "planning"
    if done.left:
        return "processing"
    if plan_state == "cancelled" or (done.cancelled and done.cancelled == done.total):
        return "cancelled"
    if not done.failed and plan_state != "dead":
        return "completed"
    return "completed_with_errors" if done.done else "failed"
