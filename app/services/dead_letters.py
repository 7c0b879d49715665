"""Looking at dead letters: groups by cause, lists, one letter with what it holds.

Rows of the index answer everything but the payload and the history, which lie with the letter on its stream
and are read when somebody opens it. Admins see all letters, others those of their own jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    cast,
    func,
    literal,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from app.errors import ForbiddenError, NotFoundError
from app.security.principal import Principal, Role
from app.services.audit_trail import AuditTrail
from app.services.dead_letter_filters import LetterFilter, expiring_unread, position, visible_to
from app.services.letter_content import Contents, LetterContent
from app.services.letter_search import settled
from app.services.letter_subjects import LetterSubject, subjects_of
from app.services.paging import after_token, check_window, continuation_token
from app.services.views import view
from app.storage.postgres.queries.pages import page
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterGroup, DeadLetterHour, DeadLetterRow, Job

NOUN = "dead_letter"
_CURVE_HOURS = 24
_MOST_LINEAGE = 20


@dataclass(frozen=True, slots=True)
class DeadLetterView:
    """A dead letter in a list; times by the clock of the worker that gave it up."""

    dead_letter_id: int
    sequence: int
    state: str
    reason: str
    actor: str | None
    queue: str
    pool: str | None
    owner_id: str | None
    job_id: UUID | None
    message_id: str | None
    error_class: str | None
    error_message: str
    document: str | None
    cause: str
    fingerprint: str
    attempts: int
    worker: str
    trace_id: str | None
    size_bytes: int
    first_seen_at: datetime
    died_at: datetime
    expires_at: datetime | None
    read_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    ended_why: str | None
    undo_until: datetime | None
    successor_message_id: str | None
    successor_job_id: UUID | None
    arguments: dict[str, Any] | None
    edited_arguments: dict[str, Any] | None
    parent_id: int | None
    depth: int
    bulk_id: int | None
    origin: str | None


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Letters, the last to die first; the token leads to older ones."""

    items: tuple[DeadLetterView, ...]
    has_more: bool
    continuation_token: str | None


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Letters of one cause. `curve` has how many died in each of the last 24 hours, the present one last."""

    fingerprint: str
    error_class: str | None
    cause: str
    reason: str
    actor: str | None
    queue: str
    pool: str | None
    open_count: int
    total_count: int
    first_seen_at: datetime
    last_seen_at: datetime
    curve: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LetterGroups:
    """Groups `offset` to `offset + limit` of `total_count`, those that died last first.

    `open_count` is how many letters wait in all of them, `expiring_unread` how many nobody will have seen.
    """

    items: tuple[LetterGroup, ...]
    open_count: int
    expiring_unread: int
    total_count: int
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class LetterDetail:
    """One letter: its row, what it holds and is about, its job, and its line of replays from the first on.

    `content` is None where the letter is not on the stream any more; `content_gone` says why then.
    `job_not_before` is the moment until which its waiting job was put off.
    """

    letter: DeadLetterView
    content: LetterContent | None
    content_gone: str | None
    job_state: str | None
    job_not_before: datetime | None
    lineage: tuple[DeadLetterView, ...]
    subjects: tuple[LetterSubject, ...]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Verbs that look at dead letters."""

    database: Database
    trail: AuditTrail
    contents: Contents

    def list(
        self,
        principal: Principal,
        wanted: LetterFilter | None = None,
        *,
        limit: int = 50,
        token: str | None = None,
    ) -> DeadLetterPage:
        """The letters that match, the last to die first; raises InvalidInputError."""
        check_window(limit)
        row = DeadLetterRow
        wanted = wanted or LetterFilter()
        conditions = [visible_to(principal), *replace(wanted, search=None).conditions()]
        if (last := after_token(token)) is not None:
            died_at, number = position(last)
            before = tuple_(literal(died_at), literal(number))
            conditions.append(tuple_(row.died_at, row.dead_letter_id) < before)
        newest = select(row).order_by(row.died_at.desc(), row.dead_letter_id.desc())
        with self.database.transaction() as session:
            if wanted.search is not None:
                conditions.append(settled(session, visible_to(principal), wanted.search))
            found = session.scalars(newest.where(*conditions).limit(limit + 1)).all()
        items = tuple(view(DeadLetterView, each) for each in found[:limit])
        has_more = len(found) > limit
        return DeadLetterPage(items, has_more, _after(items[-1]) if has_more else None)

    def after(
        self, principal: Principal, dead_letter_id: int, wanted: LetterFilter, *, limit: int = 1000
    ) -> tuple[DeadLetterView, ...]:
        """Those of the matching letters that were indexed after this one, in that order.

        Raises InvalidInputError.
        """
        check_window(limit)
        row = DeadLetterRow
        later = (visible_to(principal), row.dead_letter_id > dead_letter_id, *wanted.conditions())
        found = select(row).where(*later).order_by(row.dead_letter_id).limit(limit)
        with self.database.transaction() as session:
            return tuple(view(DeadLetterView, each) for each in session.scalars(found))

    def list_one(self, principal: Principal, dead_letter_id: int) -> DeadLetterView:
        """The row of one letter, unread; raises NotFoundError."""
        with self.database.transaction() as session:
            return view(DeadLetterView, letter_of(session, principal, dead_letter_id))

    def origins(self, ids: Iterable[int]) -> dict[int, str]:
        """Of letters, "life:sequence" of what each was first: what an export names them by."""
        row = DeadLetterRow
        named = select(row.dead_letter_id, row.origin, row.stream_life, row.sequence)
        with self.database.transaction() as session:
            rows = session.execute(named.where(row.dead_letter_id.in_(set(ids)))).all()
        return {key: origin or f"{life}:{sequence}" for key, origin, life, sequence in rows}

    def iterate(self, principal: Principal, wanted: LetterFilter) -> Iterator[DeadLetterView]:
        """All of them, page by page; what dies meanwhile is left out. Raises InvalidInputError."""
        token: str | None = None
        while True:
            found = self.list(principal, wanted, limit=1000, token=token)
            yield from found.items
            token = found.continuation_token
            if token is None:
                return

    def groups(
        self, principal: Principal, *, limit: int = 50, offset: int = 0, only_open: bool = True
    ) -> LetterGroups:
        """Letters by cause; raises InvalidInputError."""
        check_window(limit, offset)
        causes = _groups(principal, only_open=only_open)
        with self.database.transaction() as session:
            rows, number = page(session, causes, limit=limit, offset=offset)
            curves = _curves(session, principal, [row.fingerprint for row in rows])
            total = session.scalar(select(func.sum(DeadLetterGroup.open_count)).where(_mine(principal)))
            expiring = session.scalar(select(func.count()).where(visible_to(principal), *expiring_unread()))
        items = tuple(
            LetterGroup(**row._asdict(), curve=curves.get(row.fingerprint, (0,) * _CURVE_HOURS))
            for row in rows
        )
        return LetterGroups(items, int(total or 0), int(expiring or 0), number, limit, offset)

    def get(self, principal: Principal, dead_letter_id: int, *, reveal: bool = False) -> LetterDetail:
        """One letter with its payload, secrets masked unless an admin asks to see them, which is on record.

        Raises NotFoundError, ForbiddenError, UnavailableError.
        """
        with self.database.transaction() as session:
            row = letter_of(session, principal, dead_letter_id)
            if reveal and not principal.role.covers(Role.ADMIN):
                raise ForbiddenError("only an admin may see the secrets in a payload")
            job = session.get(Job, row.job_id) if row.job_id else None
            lineage = _lineage(session, principal, row)
            subjects = subjects_of(session, row)
            if reveal:
                self.trail.record(session, "dead_letter.revealed", **about(row))
        content, gone = self.contents.read(row, reveal=reveal)
        return LetterDetail(
            view(DeadLetterView, row), content, gone, job.state if job else None,
            job.not_before if job and job.state == "pending" else None,
            tuple(view(DeadLetterView, each) for each in lineage),
            subjects,
        )  # fmt: skip

    def mark_read(self, principal: Principal, dead_letter_id: int) -> None:
        """Note that somebody has seen the letter: what expires unseen is warned of. Raises NotFoundError."""
        with self.database.transaction() as session:
            letter_of(session, principal, dead_letter_id)
            session.execute(
                update(DeadLetterRow)
                .where(DeadLetterRow.dead_letter_id == dead_letter_id, DeadLetterRow.read_at.is_(None))
                .values(read_at=func.now())
                .execution_options(synchronize_session=False)
            )


def letter_of(
    session: Session, principal: Principal, dead_letter_id: int, *, lock: bool = False
) -> DeadLetterRow:
    """The row of a letter that the principal may see; raises NotFoundError."""
    statement = select(DeadLetterRow).where(
        DeadLetterRow.dead_letter_id == dead_letter_id, visible_to(principal)
    )
    row = session.scalar(statement.with_for_update() if lock else statement)
    if row is None:
        raise NotFoundError(f"no dead letter {dead_letter_id}")
    return row


def about(row: DeadLetterRow, **details: Any) -> Mapping[str, Any]:
    """What the audit log is told of an act on one letter."""
    return {
        "object_kind": NOUN,
        "object_id": str(row.dead_letter_id),
        "owner_id": row.owner_id,
        "details": {"reason": row.reason, "fingerprint": row.fingerprint, **details},
    }


def _after(last: DeadLetterView) -> str:
    return continuation_token(f"{last.died_at.isoformat()}|{last.dead_letter_id}")


def _mine(principal: Principal) -> ColumnElement[bool]:
    everything = principal.role.covers(Role.ADMIN)
    return true() if everything else DeadLetterGroup.owner_id == principal.owner_id


def _groups(principal: Principal, *, only_open: bool) -> Select[Any]:
    group = DeadLetterGroup
    texts = (group.error_class, group.cause, group.reason, group.actor, group.queue, group.pool)
    last = func.max(group.last_seen_at)
    counted = (
        cast(func.sum(group.open_count), BigInteger).label("open_count"),
        cast(func.sum(group.total_count), BigInteger).label("total_count"),
        func.min(group.first_seen_at).label("first_seen_at"),
        last.label("last_seen_at"),
    )
    named = (func.max(text).label(text.key) for text in texts)
    statement = select(group.fingerprint, *named, *counted).where(_mine(principal))
    if only_open:
        statement = statement.where(group.open_count > 0)
    return statement.group_by(group.fingerprint).order_by(last.desc(), group.fingerprint)


def _curves(
    session: Session, principal: Principal, fingerprints: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    hour, now = DeadLetterHour, func.date_trunc("hour", func.now())
    ago = cast(func.extract("epoch", now - hour.hour) / 3600, Integer)
    recent = [hour.fingerprint.in_(fingerprints), ago < _CURVE_HOURS, hour.hour <= now]
    if not principal.role.covers(Role.ADMIN):
        recent.append(hour.owner_id == principal.owner_id)
    counts: dict[str, list[int]] = {}
    for fingerprint, back, died in session.execute(select(hour.fingerprint, ago, hour.died).where(*recent)):
        curve = counts.setdefault(fingerprint, [0] * _CURVE_HOURS)
        curve[_CURVE_HOURS - 1 - int(back)] += died
    return {fingerprint: tuple(curve) for fingerprint, curve in counts.items()}


def _lineage(session: Session, principal: Principal, row: DeadLetterRow) -> Sequence[DeadLetterRow]:
    """The letters before this one in its line of replays, itself, and those that came of it."""
    line, first = [row], row
    while first.parent_id is not None and len(line) < _MOST_LINEAGE:
        parent = session.get(DeadLetterRow, first.parent_id)
        if parent is None:
            break
        line.insert(0, parent)
        first = parent
    last = row
    while len(line) < _MOST_LINEAGE:
        child = session.scalar(select(DeadLetterRow).where(DeadLetterRow.parent_id == last.dead_letter_id))
        if child is None:
            break
        line.append(child)
        last = child
    everything = principal.role.covers(Role.ADMIN)
    return [each for each in line if everything or each.owner_id == principal.owner_id]
