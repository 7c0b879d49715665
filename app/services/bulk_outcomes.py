"""What came of the letters that a bulk job replayed, told by the rows of their jobs and of later letters.

Nothing is counted up on the way: a letter whose successor died names it as its parent, and a job that is
dead without such a letter still waits for its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    case,
    cast,
    exists,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

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
    return session.scalar(_again(bulk_id, func.count(DeadLetterBulkItem.dead_letter_id.distinct()))) or 0


def problems(session: Session, bulk_id: int, limit: int) -> Sequence[Any]:
    """Rows for BulkProblem, the oldest letters first."""
    item, child = DeadLetterBulkItem, DeadLetterRow
    told = literal("it died again as dead letter ").concat(cast(child.dead_letter_id, Text))
    again = _again(
        bulk_id, item.dead_letter_id, literal(DIED_AGAIN), told, child.dead_letter_id.label("died_again_as")
    )
    nothing = cast(null(), BigInteger).label("died_again_as")
    bad = select(item.dead_letter_id, item.state, item.detail, nothing)
    bad = bad.where(item.bulk_id == bulk_id, item.state.in_(("failed", "skipped")))
    # Each by an index of its own: nearly none of a million letters makes trouble.
    first = [part.order_by(item.dead_letter_id).limit(limit).subquery() for part in (bad, again)]
    both = union_all(*(select(part) for part in first)).subquery()
    return session.execute(select(both).order_by(both.c.dead_letter_id).limit(limit)).all()


def waits_for(session: Session, bulk: DeadLetterBulk) -> int | None:
    """The bulk job that is worked off while this one, which is to run, waits for a worker; None: none is."""
    held = DeadLetterBulk.leased_until > func.now()
    at_work = select(DeadLetterBulk.bulk_id).where(DeadLetterBulk.state == "running", held)
    ids = session.scalars(at_work.order_by(DeadLetterBulk.bulk_id)).all()
    return None if bulk.state != "running" or bulk.bulk_id in ids else next(iter(ids), None)


def _again(bulk_id: int, *columns: ColumnElement[Any] | InstrumentedAttribute[Any]) -> Select[Any]:
    """Of letters that were replayed and are dead anew, with their items; begins with those that are dead."""
    item, child = DeadLetterBulkItem, DeadLetterRow
    joined = select(*columns).select_from(child).join(item, item.dead_letter_id == child.parent_id)
    return joined.where(child.parent_id.is_not(None), item.bulk_id == bulk_id, item.state == "done")


def _died_again() -> ColumnElement[bool]:
    child = aliased(DeadLetterRow)
    return exists().where(child.parent_id == DeadLetterBulkItem.dead_letter_id)
