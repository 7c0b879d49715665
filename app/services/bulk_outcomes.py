"""What came of the letters that a bulk job replayed, told by the rows of their jobs and of later letters.

Nothing is counted up on the way: a letter whose successor died names it as its parent, and a job that is
dead without such a letter still waits for its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, exists, func, literal, or_, select
from sqlalchemy.orm import Session, aliased

from app.storage.postgres.tables import (
    ACTIVE_STATES,
    DeadLetterBulk,
    DeadLetterBulkItem,
    DeadLetterRow,
    Job,
)

DIED_AGAIN = "died-again"


@dataclass(frozen=True, slots=True)
class Successors:
    """How many of the letters that a bulk job sent again took which way; they add up to its `done`.

    waiting  for a worker or the next attempt, or running
    unknown  the job was cancelled or is gone, or the letter was of no job
    """

    succeeded: int = 0
    died_again: int = 0
    waiting: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class BulkProblem:
    """A letter that a bulk job could not end, or that died again as another one, and why.

    `state` is failed, skipped or died-again.
    """

    dead_letter_id: int
    state: str
    detail: str | None
    died_again_as: int | None


def successors(session: Session, bulk_id: int) -> Successors:
    """How those fare that were replayed."""
    item, row = DeadLetterBulkItem, DeadLetterRow
    way = case(
        (_died_again(), "died_again"),
        (Job.state == "succeeded", "succeeded"),
        (Job.state.in_((*ACTIVE_STATES, "dead")), "waiting"),
        else_="unknown",
    ).label("way")
    counted = (
        select(way, func.count())
        .select_from(item)
        .join(row, row.dead_letter_id == item.dead_letter_id)
        .outerjoin(Job, Job.job_id == row.job_id)
        .where(item.bulk_id == bulk_id, item.state == "done")
        .group_by("way")
    )
    return Successors(**{name: int(number) for name, number in session.execute(counted)})


def died_again(session: Session, bulk_id: int) -> int:
    """How many of those that were replayed are dead letters anew."""
    item = DeadLetterBulkItem
    mine = (item.bulk_id == bulk_id, item.state == "done")
    return session.scalar(select(func.count()).select_from(item).where(*mine, _died_again())) or 0


def problems(session: Session, bulk_id: int, limit: int) -> Sequence[Any]:
    """Rows for BulkProblem, the oldest letters first."""
    item, child = DeadLetterBulkItem, aliased(DeadLetterRow)
    again = child.dead_letter_id.is_not(None)
    detail = literal("it died again as dead letter ").concat(cast(child.dead_letter_id, Text))
    columns = (
        item.dead_letter_id,
        case((again, DIED_AGAIN), else_=item.state).label("state"),
        case((again, detail), else_=item.detail).label("detail"),
        child.dead_letter_id.label("died_again_as"),
    )
    dead = and_(child.parent_id == item.dead_letter_id, item.state == "done")
    found = select(*columns).select_from(item).outerjoin(child, dead)
    bad = or_(item.state.in_(("failed", "skipped")), again)
    return session.execute(
        found.where(item.bulk_id == bulk_id, bad).order_by(item.dead_letter_id).limit(limit)
    ).all()


def waits_for(session: Session, bulk: DeadLetterBulk) -> int | None:
    """The bulk job that is worked off while this one, which is to run, waits for a worker; None: none is."""
    held = DeadLetterBulk.leased_until > func.now()
    at_work = select(DeadLetterBulk.bulk_id).where(DeadLetterBulk.state == "running", held)
    ids = session.scalars(at_work.order_by(DeadLetterBulk.bulk_id)).all()
    return None if bulk.state != "running" or bulk.bulk_id in ids else next(iter(ids), None)


def _died_again() -> ColumnElement[bool]:
    child = aliased(DeadLetterRow)
    return exists().where(child.parent_id == DeadLetterBulkItem.dead_letter_id)
