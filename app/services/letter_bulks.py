"""Bulk jobs over dead letters: a filter becomes a frozen list, which is looked at before it is begun.

Here they are made and steered; `bulk_runs` works them off. All of it is rows, so a bulk job survives whatever
is killed, and what one process pauses another one stops doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, CursorResult, Select, func, insert, literal, select, text, true, update
from sqlalchemy.orm import Session

from app.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from app.jobs.outbox import cause_of_now
from app.security.audit import origin
from app.security.principal import Principal, Role
from app.services import bulk_items, bulk_outcomes
from app.services.audit_trail import AuditTrail
from app.services.bulk_outcomes import BulkProblem, Successors
from app.services.dead_letter_filters import LetterFilter, visible_to
from app.services.letter_acts import check_why
from app.services.paging import Page, check_window
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow

Act = Literal["replay", "discard"]

MOST_LETTERS = 1_000_000
LEAST_PER_SECOND, MOST_PER_SECOND = 0.1, 500.0
_PREPARING_SECONDS = 120
_RESTORED_AT_ONCE = 100_000
_ENDED = frozenset({"finished", "cancelled", "stopped"})
_UNFINISHED = ("prepared", "running", "paused", "stopped")
_NEWEST_FIRST = (Key("bulk_id", DeadLetterBulk.bulk_id, descending=True),)


@dataclass(frozen=True, slots=True)
class BulkOrder:
    """How to go about it.

    per_second             letters per second, 0.1 to 500
    canary                 pause after so many, to see how they fare; 0: do not
    stop_on_failure_share  stop once more than this share (0 to 1) of at least ten letters failed or,
                           replayed, died again
    """

    act: Act
    why: str
    per_second: float = 50.0
    canary: int = 0
    stop_on_failure_share: float | None = None


@dataclass(frozen=True, slots=True)
class BulkView:
    """A bulk job. `done`, `skipped` (ended otherwise meanwhile) and `failed` add up to `total` at its end."""

    bulk_id: int
    act: str
    state: str
    filter: dict[str, Any]
    why: str
    created_by: str
    started_by: str | None
    per_second: float
    canary: int
    stop_on_failure_share: float | None
    total: int
    done: int
    skipped: int
    failed: int
    note: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class BulkPart:
    """How many letters of a bulk job have a cause."""

    fingerprint: str
    cause: str
    count: int


@dataclass(frozen=True, slots=True)
class BulkPreview:
    """What a bulk job would do, the most frequent causes first, and whether a second person must start it.

    can_be_undone  letters that it discarded can still be taken back
    successors     how those fare that it sent again; None for a discard, and where it was not counted
    waits_for      the bulk job that workers are busy with, where this one is to run and nobody is at it
    """

    bulk: BulkView
    causes: tuple[BulkPart, ...]
    needs_second_person: bool
    can_be_undone: bool
    successors: Successors | None
    waits_for: int | None


@dataclass(frozen=True, slots=True)
class BulkUndone:
    """A bulk discard, how many of its letters are open again, and whether more of them can be."""

    bulk: BulkView
    restored: int
    more: bool


@dataclass(frozen=True, slots=True)
class LetterBulks:
    """Verbs on bulk jobs. Over more than `two_person_above` letters (0: any) it takes a second person."""

    database: Database
    trail: AuditTrail
    two_person_above: int

    def prepare(self, principal: Principal, wanted: LetterFilter, order: BulkOrder) -> BulkPreview:
        """Freeze the list of the open letters that match; nothing is done to them yet.

        Raises InvalidInputError, also where none or more than 1,000,000 match.
        """
        _check(order, wanted)
        with self.database.transaction() as session:
            session.execute(text(f"SET LOCAL statement_timeout = '{_PREPARING_SECONDS}s'"))
            bulk = _bulk(principal, wanted, order)
            session.add(bulk)
            session.flush()
            bulk.total = _freeze(session, bulk.bulk_id, principal, wanted)
            if not 0 < bulk.total <= MOST_LETTERS:
                raise InvalidInputError(_wrong_number(bulk.total))
            bulk.causes = bulk_items.causes(session, bulk.bulk_id)
            self._record(session, bulk, "prepared")
            session.flush()
            session.refresh(bulk)
            return self._preview(session, bulk)

    def preview(self, principal: Principal, bulk_id: int, *, most_counted: int | None = None) -> BulkPreview:
        """The same again, for whoever is to start it; raises NotFoundError.

        How those fare that were sent again is counted each time, a second or more for a million of them:
        `most_counted` leaves it out where there are more.
        """
        with self.database.transaction() as session:
            return self._preview(session, _of(session, principal, bulk_id), most_counted)

    def get(self, principal: Principal, bulk_id: int) -> BulkView:
        """One bulk job; raises NotFoundError."""
        with self.database.transaction() as session:
            return view(BulkView, _of(session, principal, bulk_id))

    def list(
        self, principal: Principal, *, limit: int = 20, offset: int = 0, cursor: str | None = None
    ) -> Page[BulkView]:
        """Bulk jobs, the newest first; raises InvalidInputError."""
        check_window(limit, offset)
        visible = select(DeadLetterBulk).where(_visible(principal))
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, visible, _NEWEST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(view(BulkView, row) for (row,) in rows), total, limit, offset, following)

    def problems(self, principal: Principal, bulk_id: int, *, limit: int = 100) -> tuple[BulkProblem, ...]:
        """Letters that failed, were skipped or died again, the oldest first.

        Raises NotFoundError, InvalidInputError.
        """
        check_window(limit)
        with self.database.transaction() as session:
            _of(session, principal, bulk_id)
            rows = bulk_outcomes.problems(session, bulk_id, limit)
            return tuple(view(BulkProblem, row) for row in rows)

    def unfinished(self) -> dict[str, int]:
        """How many bulk jobs wait, run or stand, by state, of all owners."""
        state = DeadLetterBulk.state
        counted = select(state, func.count()).where(state.in_(_UNFINISHED)).group_by(state)
        with self.database.transaction() as session:
            rows = session.execute(counted).all()
        return dict.fromkeys(_UNFINISHED, 0) | {name: int(number) for name, number in rows}

    def start(self, principal: Principal, bulk_id: int) -> BulkView:
        """Begin; a worker takes it up within seconds. Raises NotFoundError, ConflictError, ForbiddenError."""
        with self.database.transaction() as session:
            bulk = self._steered(session, principal, bulk_id, {"prepared"}, "running")
            if self._needs_second(bulk) and bulk.created_by == origin().actor:
                raise ForbiddenError(
                    f"a bulk job over more than {self.two_person_above} letters is started by another person "
                    "than the one who prepared it"
                )
            bulk.started_by, bulk.started_at = origin().actor, func.now()
            bulk.trace = cause_of_now()
            return self._told(session, bulk, "started")

    def pause(self, principal: Principal, bulk_id: int) -> BulkView:
        """Stop for now; what is being sent at this moment still happens. Raises as `start`."""
        with self.database.transaction() as session:
            bulk = self._steered(session, principal, bulk_id, {"running"}, "paused")
            bulk.note = f"paused by {origin().actor}"
            return self._told(session, bulk, "paused")

    def resume(self, principal: Principal, bulk_id: int) -> BulkView:
        """Go on after a pause, a canary, or a stop for failures: it does not stop for those again.

        Raises as `start`.
        """
        with self.database.transaction() as session:
            was_stopped = _of(session, principal, bulk_id, lock=True).state == "stopped"
            bulk = self._steered(session, principal, bulk_id, {"paused", "stopped"}, "running")
            bulk.note = bulk.finished_at = None
            if was_stopped:
                bulk.stop_on_failure_share = None
                bulk.note = f"resumed by {origin().actor} after it had stopped: it does not stop again"
            bulk.trace = cause_of_now()
            return self._told(session, bulk, "resumed")

    def cancel(self, principal: Principal, bulk_id: int) -> BulkView:
        """End it; letters that were not reached stay as they are. Raises as `start`."""
        with self.database.transaction() as session:
            stoppable = {"prepared", "running", "paused", "stopped"}
            bulk = self._steered(session, principal, bulk_id, stoppable, "cancelled")
            bulk.note, bulk.finished_at = f"cancelled by {origin().actor}", func.now()
            return self._told(session, bulk, "cancelled")

    def undo(self, principal: Principal, bulk_id: int) -> BulkUndone:
        """Take back what an ended bulk discard discarded, as far as that is still possible; safe to repeat.

        100,000 letters at a time: `more` says whether to repeat it.
        Raises NotFoundError, and ConflictError for another bulk job or where nothing can be taken back.
        """
        with self.database.transaction() as session:
            session.execute(text(f"SET LOCAL statement_timeout = '{_PREPARING_SECONDS}s'"))
            bulk = _of(session, principal, bulk_id)
            if bulk.act != "discard" or bulk.state not in _ENDED:
                raise ConflictError(f"bulk job {bulk_id} is no discard that has ended: it is not undone")
            restored = _restore(session, bulk_id)
            if not restored:
                raise ConflictError(f"no discard of bulk job {bulk_id} can be undone (any more)")
            more = _can_be_undone(session, bulk_id)
            bulk.note = f"{restored} discards undone by {origin().actor}{', more can be' if more else ''}"
            self._record(session, bulk, "undone", restored=restored)
            session.flush()
            session.refresh(bulk)
            return BulkUndone(view(BulkView, bulk), restored, more)

    def _steered(
        self, session: Session, principal: Principal, bulk_id: int, expected: set[str], state: str
    ) -> DeadLetterBulk:
        bulk = _of(session, principal, bulk_id, lock=True)
        if bulk.state not in expected:
            raise ConflictError(f"bulk job {bulk_id} is {bulk.state}, not {' or '.join(sorted(expected))}")
        bulk.state = state
        return bulk

    def _told(self, session: Session, bulk: DeadLetterBulk, verb: str) -> BulkView:
        self._record(session, bulk, verb)
        session.flush()
        session.refresh(bulk)
        return view(BulkView, bulk)

    def _record(self, session: Session, bulk: DeadLetterBulk, verb: str, **more: int) -> None:
        self.trail.record(
            session,
            f"dead_letter_bulk.{verb}",
            object_kind="dead_letter_bulk",
            object_id=str(bulk.bulk_id),
            owner_id=bulk.owner_id,
            details={"act": bulk.act, "total": bulk.total, "filter": sorted(bulk.filter), **more},
        )

    def _needs_second(self, bulk: DeadLetterBulk) -> bool:
        return 0 < self.two_person_above < bulk.total

    def _preview(
        self, session: Session, bulk: DeadLetterBulk, most_counted: int | None = None
    ) -> BulkPreview:
        causes = bulk_items.causes(session, bulk.bulk_id) if bulk.causes is None else bulk.causes
        parts = tuple(BulkPart(**cause) for cause in causes)
        undoable = bulk.act == "discard" and bulk.state in _ENDED and _can_be_undone(session, bulk.bulk_id)
        counted = bulk.act == "replay" and (most_counted is None or bulk.done <= most_counted)
        fare = bulk_outcomes.successors(session, bulk.bulk_id) if counted else None
        ahead = bulk_outcomes.waits_for(session, bulk)
        return BulkPreview(view(BulkView, bulk), parts, self._needs_second(bulk), undoable, fare, ahead)


def _check(order: BulkOrder, wanted: LetterFilter) -> None:
    check_why(order.why, needed=True)
    if wanted.state != "open":
        raise InvalidInputError("only open letters are replayed or discarded", field="state")
    if not LEAST_PER_SECOND <= order.per_second <= MOST_PER_SECOND:
        raise InvalidInputError(
            f"per_second must lie between {LEAST_PER_SECOND:g} and {MOST_PER_SECOND:g}", field="per_second"
        )
    if order.canary < 0:
        raise InvalidInputError("canary must not be negative", field="canary")
    share = order.stop_on_failure_share
    if share is not None and not 0 <= share <= 1:
        raise InvalidInputError(
            "stop_on_failure_share must lie between 0 and 1", field="stop_on_failure_share"
        )


def _bulk(principal: Principal, wanted: LetterFilter, order: BulkOrder) -> DeadLetterBulk:
    return DeadLetterBulk(
        owner_id=None if principal.role.covers(Role.ADMIN) else principal.owner_id,
        act=order.act,
        filter=wanted.given(),
        why=order.why.strip(),
        created_by=origin().actor,
        per_second=order.per_second,
        canary=order.canary,
        stop_on_failure_share=order.stop_on_failure_share,
    )


def _freeze(session: Session, bulk_id: int, principal: Principal, wanted: LetterFilter) -> int:
    row = DeadLetterRow
    # One more than may be, to see that there are too many.
    matching = (
        select(literal(bulk_id), row.dead_letter_id)
        .where(visible_to(principal), *wanted.conditions())
        .order_by(row.dead_letter_id)
        .limit(MOST_LETTERS + 1)
    )
    columns = [DeadLetterBulkItem.bulk_id, DeadLetterBulkItem.dead_letter_id]
    frozen = session.execute(insert(DeadLetterBulkItem).from_select(columns, matching))
    return int(cast("CursorResult[Any]", frozen).rowcount)


def _discarded(bulk_id: int) -> Select[tuple[int]]:
    """Letters that the bulk job discarded and that can be taken back."""
    row, item = DeadLetterRow, DeadLetterBulkItem
    mine = (item.bulk_id == bulk_id, item.state == "done", row.bulk_id == bulk_id)
    here = (row.state == "discarded", row.removed_at.is_(None), row.undo_until > func.now())
    joined = select(row.dead_letter_id).join(item, item.dead_letter_id == row.dead_letter_id)
    return joined.where(*mine, *here)


def _can_be_undone(session: Session, bulk_id: int) -> bool:
    return session.scalar(_discarded(bulk_id).limit(1)) is not None


def _restore(session: Session, bulk_id: int) -> int:
    """How many are open again. One that is leaving its stream at this moment is passed over."""
    held = _discarded(bulk_id).order_by(DeadLetterRow.dead_letter_id).limit(_RESTORED_AT_ONCE)
    locked = held.with_for_update(of=DeadLetterRow, skip_locked=True).cte("held")
    nothing = dict.fromkeys(("ended_at", "ended_by", "ended_why", "undo_until", "bulk_id"))
    restored = (
        update(DeadLetterRow)
        .where(DeadLetterRow.dead_letter_id == locked.c.dead_letter_id)
        .values(state="open", **nothing)
        .returning(DeadLetterRow.dead_letter_id)
        .execution_options(synchronize_session=False)
    )
    return len(session.scalars(restored).all())


def _wrong_number(total: int) -> str:
    if not total:
        return "no open letter matches the filter"
    return f"more than {MOST_LETTERS:,} letters match: narrow the filter"


def _visible(principal: Principal) -> ColumnElement[bool]:
    everything = principal.role.covers(Role.ADMIN)
    return true() if everything else DeadLetterBulk.owner_id == principal.owner_id


def _of(session: Session, principal: Principal, bulk_id: int, *, lock: bool = False) -> DeadLetterBulk:
    statement = select(DeadLetterBulk).where(DeadLetterBulk.bulk_id == bulk_id, _visible(principal))
    bulk = session.scalar(statement.with_for_update() if lock else statement)
    if bulk is None:
        raise NotFoundError(f"no bulk job {bulk_id}")
    return bulk
