"""The letters of a bulk job, a row each: which of them wait, and what became of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, and_, cast, column, func, select, update, values
from sqlalchemy.orm import Session

from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow

_CAUSES = 20

Verdict = tuple[str, str | None]  # the item's state, and its detail


@dataclass(frozen=True, slots=True)
class Task:
    """A bulk job in this worker's hands. `left` caps how many letters it may try: a canary's rest.

    `trace` is that of the request which began it.
    """

    bulk_id: int
    act: str
    by: str
    why: str
    owner_id: str | None
    per_second: float
    left: int | None
    trace: Mapping[str, str]


def waiting(
    session: Session, bulk_id: int, after: int, most: int, *bulk_is: ColumnElement[bool]
) -> Sequence[DeadLetterRow]:
    """The next letters by id; none where the bulk job is not what `bulk_is` says."""
    bulk, item, row = DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow
    mine = (item.bulk_id == bulk_id, item.state == "waiting", item.dead_letter_id > after)
    statement = select(row).join(item, item.dead_letter_id == row.dead_letter_id)
    statement = statement.join(bulk, bulk.bulk_id == item.bulk_id).where(*mine, *bulk_is)
    return session.scalars(statement.order_by(item.dead_letter_id).limit(most)).all()


def mark(session: Session, bulk_id: int, verdicts: Mapping[int, Verdict]) -> dict[str, int]:
    """How many items took which state; those that somebody else has counted are not counted again."""
    if not verdicts:
        return {}
    told = values(column("id", BigInteger), column("state", Text), column("detail", Text), name="told").data(
        [(key, state, detail) for key, (state, detail) in sorted(verdicts.items())]
    )
    item = DeadLetterBulkItem
    states = session.scalars(
        update(item)
        .where(item.bulk_id == bulk_id, item.dead_letter_id == told.c.id, item.state == "waiting")
        .values(state=told.c.state, detail=cast(told.c.detail, Text))
        .returning(item.state)
        .execution_options(synchronize_session=False)
    ).all()
    return {state: states.count(state) for state in set(states)}


def mark_replayed(session: Session, task: Task, sent: Mapping[int, str]) -> None:
    """Also those discarded since they were sent: their messages must not seem to be held back."""
    if not sent:
        return
    row = DeadLetterRow
    told = values(column("id", BigInteger), column("successor", Text), name="told").data(sorted(sent.items()))
    locked = select(row.dead_letter_id).where(row.dead_letter_id.in_(sent)).order_by(row.dead_letter_id)
    session.execute(locked.with_for_update())
    session.execute(
        update(row)
        .where(and_(row.dead_letter_id == told.c.id, row.state.in_(("open", "discarded"))))
        .values(
            state="replayed",
            ended_at=func.now(),
            ended_by=task.by,
            ended_why=task.why,
            undo_until=None,
            removed_at=func.now(),
            successor_message_id=told.c.successor,
            bulk_id=task.bulk_id,
        )
        .execution_options(synchronize_session=False)
    )


def found(session: Session, task: Task, whys: Mapping[int, str | None]) -> dict[int, Verdict]:
    """Letters that were not sent now: this bulk job had sent them before it was killed, or the reason why."""
    if not whys:
        return {}
    row = DeadLetterRow
    ours = and_(row.state == "replayed", row.ended_why == task.why)
    session.execute(
        update(row)
        .where(row.dead_letter_id.in_(whys), ours)
        .values(bulk_id=task.bulk_id)
        .execution_options(synchronize_session=False)
    )
    columns = (row.dead_letter_id, row.state, row.successor_message_id, ours)
    rows = session.execute(select(*columns).where(row.dead_letter_id.in_(whys)))
    return {
        key: ("done", successor) if is_ours else ("skipped", _why(state, whys[key]))
        for key, state, successor, is_ours in rows
    }


def causes(session: Session, bulk_id: int) -> list[dict[str, Any]]:
    """The most frequent causes of its letters, as `letter_bulks.BulkPart` has them."""
    item, row = DeadLetterBulkItem, DeadLetterRow
    number = func.count().label("count")
    counted = session.execute(
        select(row.fingerprint, func.max(row.cause).label("cause"), number)
        .join(item, item.dead_letter_id == row.dead_letter_id)
        .where(item.bulk_id == bulk_id)
        .group_by(row.fingerprint)
        .order_by(number.desc(), row.fingerprint)
        .limit(_CAUSES)
    ).all()
    return [cause._asdict() for cause in counted]


def was(state: str) -> str:
    """Of a letter that ended before it was its turn."""
    return f"it was {state} already"


def _why(state: str, why: str | None) -> str:
    return was(state) if state != "open" else why or "it is not on its stream any more"
