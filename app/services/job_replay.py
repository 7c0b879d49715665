"""A dead letter is replayed: its job, which is dead as well, waits for the new message.

The row takes on the publication of the new message, so nothing that is left of older ones can start it, and
the new one may be delivered twice or retried as any other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.jobs.policy import taken_by
from app.services.jobs import Jobs
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    FileExtraction,
    ItemEmbedding,
    Job,
    Visualization,
)

logger = logging.getLogger(__name__)

_FORGOTTEN = {"error_code": None, "error_message": None, "processed_at": None}


def revive(jobs: Jobs, job_id: UUID, *, publication: int) -> bool:
    """Put a dead job back to pending, with a fresh allowance of attempts, and what waited for it, too.

    `publication` is that of the replayed message. False, and the log says why, where the job is gone or not
    dead, where a later message of it was given up as well, and where the same work is asked for, or done, by
    a later job. Raises UnavailableError.
    """
    reason = why_not_revived(jobs, job_id, publication=publication)
    if reason is not None:
        logger.warning("a replay of job %s starts nothing: %s", job_id, reason)
    return reason is None


def why_not_revived(jobs: Jobs, job_id: UUID, *, publication: int) -> str | None:
    """As `revive`; None where the job waits now, else why it does not."""
    try:
        with jobs.database.transaction() as session:
            if not _revive(session, job_id, publication):
                return _why_not(session, job_id, publication)
            _wait_again(session, job_id)
    except IntegrityError:  # uq_jobs_active: somebody asked for the work at this very moment
        return "the same work was asked for again"
    return None


def obstacles(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Why replays of these jobs' letters would start nothing, where that can be seen before."""
    wanted = set(job_ids)
    rows = session.execute(
        select(Job.job_id, Job.state, _taken_care_of()).where(Job.job_id.in_(wanted))
    ).all()
    found = dict.fromkeys(wanted - {row.job_id for row in rows}, "the job is gone, with what it was for")
    for job_id, state, taken_care_of in rows:
        if state != "dead":
            found[job_id] = f"the job is {state}"
        elif taken_care_of:
            found[job_id] = "a later job does the same work, or has done it"
    return found


def start_anew(
    session: Session, job_id: UUID, *, publication: int, queue: str, not_before: datetime | None
) -> bool:
    """As `revive`, in the caller's transaction, for a message that is sent once that has committed.

    False where `obstacles` names a reason.
    """
    unsent = {"published_at": None, "expected_by": None, "not_before": not_before}
    if not _revive(session, job_id, publication, queue=queue, **unsent):
        return False
    _wait_again(session, job_id)
    return True


def _revive(session: Session, job_id: UUID, publication: int, **more: Any) -> bool:
    """Its message is on the stream, unless `more` says otherwise."""
    revived = session.execute(
        update(Job)
        .where(Job.job_id == job_id, Job.state == "dead", Job.publication < publication, ~_taken_care_of())
        .values(
            {
                "state": "pending",
                "publication": publication,
                "published_at": func.now(),
                "expected_by": taken_by(),
                "attempt": 0,
                "outcome": {},
                "started_at": None,
                "finished_at": None,
                "error_code": None,
                "error_message": None,
                "updated_at": func.now(),
                "not_before": None,
                "put_off_at": None,
                **more,
            }
        )
        .returning(Job.job_id)
    )
    return revived.one_or_none() is not None


def _taken_care_of() -> ColumnElement[bool]:
    """A later job of the same work is active, or has done it. The scope only helps to find it by an index."""
    other = aliased(Job)
    same = (other.kind == Job.kind, other.unique_key == Job.unique_key)
    done = (other.state == "succeeded", other.created_at > Job.created_at)
    scope = (other.scope_kind == Job.scope_kind, other.scope_id == Job.scope_id)
    return or_(
        exists().where(*same, other.state.in_(ACTIVE_STATES)),
        exists().where(*same, *done, *scope),
    )


def _why_not(session: Session, job_id: UUID, publication: int) -> str:
    row = session.execute(select(Job.state, Job.publication).where(Job.job_id == job_id)).one_or_none()
    if row is None:
        return "the job is gone, with what it was for"
    if row.state != "dead":
        return f"the job is {row.state}"
    if row.publication >= publication:
        return "a later message of the job was given up, too: replay that dead letter"
    return "a later job does the same work, or has done it"


def _wait_again(session: Session, job_id: UUID) -> None:
    """What failed with the job is to be done again. Each kind of job has rows in one of the tables only."""
    for table in (FileExtraction, ItemEmbedding):
        session.execute(
            update(table)
            .where(table.job_id == job_id, table.state == "failed")
            .values(state="pending", **_FORGOTTEN)
        )
    session.execute(
        update(Visualization)
        .where(Visualization.job_id == job_id, Visualization.status == "failed")
        .values(status="pending", stage=None, progress=0, completed_at=None, error_message=None)
    )
