"""The runs of a transform: each of its plans with the jobs that came of it, counted from their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, case, exists, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from app.storage.postgres.queries.pace import pace
from app.storage.postgres.tables import ACTIVE_STATES, Job

_NEWEST = 100  # plans among which the run of now is looked for


def plans(kind: str, transform_id: int, owner_id: str) -> Select[Any]:
    """The plans of a transform: job_id, state, created_at, started_at, finished_at, error_message."""
    columns = (Job.job_id, Job.state, Job.created_at, Job.started_at, Job.finished_at, Job.error_message)
    return select(*columns).where(*_plans(kind, transform_id), Job.owner_id == owner_id)


def is_of_note() -> ColumnElement[bool]:
    """Whether the outer query's plan asked for something, or did not end well, or has not ended yet.

    Most others looked and found nothing to do.
    """
    work = aliased(Job)
    return or_(Job.state != "succeeded", exists().where(work.planned_by == Job.job_id).correlate(Job))


def current_run(session: Session, kind: str, transform_id: int) -> Row[tuple[UUID, Any]] | None:
    """Id and start of the newest run that has not ended; None where nothing is to be done."""
    newest = (
        select(Job.job_id, Job.state, Job.created_at, Job.started_at)
        .where(*_plans(kind, transform_id))
        .order_by(Job.created_at.desc(), Job.job_id)
        .limit(_NEWEST)
        .subquery()
        .c
    )
    goes_on = exists().where(Job.planned_by == newest.job_id, Job.state.in_(ACTIVE_STATES))
    found = select(newest.job_id, newest.started_at).where(or_(newest.state.in_(ACTIVE_STATES), goes_on))
    return session.execute(found.order_by(newest.created_at.desc()).limit(1)).one_or_none()


def run_counts(run_ids: Sequence[UUID]) -> Select[Any]:
    """By run: how many files or items its jobs are for, by what became of them, and their pace."""
    amount = case((Job.kind == "embed_items", func.jsonb_array_length(Job.arguments["item_ids"])), else_=1)
    good, state = Job.state == "succeeded", Job.state

    def units(where: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(amount).filter(where), 0)

    return (
        select(
            Job.planned_by,
            func.count().label("jobs"),
            units(true()).label("total"),
            units(good).label("ended_well"),
            units(state == "dead").label("dead"),
            units(state == "cancelled").label("cancelled"),
            units(state == "running").label("running"),
            units(and_(good, Job.outcome.has_key("skipped"))).label("skipped"),
            func.coalesce(func.sum(Job.outcome["items_refused"].as_integer()).filter(good), 0).label(
                "refused"
            ),
            func.max(Job.finished_at).label("last_finished"),
            *pace(
                func.sum(amount),
                state.in_(("succeeded", "dead")),
                ended=Job.finished_at,
                started=Job.started_at,
            ),
        )
        .where(Job.planned_by.in_(run_ids))
        .group_by(Job.planned_by)
    )


def _plans(kind: str, transform_id: int) -> tuple[ColumnElement[bool], ...]:
    return Job.kind == kind, Job.scope_id == transform_id
