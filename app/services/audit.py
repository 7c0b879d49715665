"""The audit log as people and operators read it; audit_trail writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, delete, func, select, text, true
from sqlalchemy.orm import Session

from app.errors import InvalidInputError
from app.security.principal import Principal, Role
from app.services.audit_check import COLUMNS, ChainCheck, Finding, Place
from app.services.audit_trail import AuditTrail
from app.services.paging import after_token, check_window, continuation_token
from app.services.views import view
from app.storage.postgres.session import Database
from app.storage.postgres.tables import AuditEvent, AuditHead

_PRUNED = "audit.pruned"
_CHECKED_AT_ONCE = 5000
_PRUNED_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class AuditEventView:
    """Who did what to which object, on whose behalf, from where."""

    id: int
    at: datetime
    owner_id: str | None
    actor: str
    action: str
    object_kind: str | None
    object_id: str | None
    outcome: str
    request_id: str | None
    address: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEventPage:
    """Events, newest first; the token leads to older ones."""

    items: tuple[AuditEventView, ...]
    has_more: bool
    continuation_token: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    """Verbs on the audit log. The database, whose sessions the trail watches, is built after it."""

    database: Callable[[], Database]
    trail: AuditTrail

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 50,
        token: str | None = None,
        action: str | None = None,
        object_kind: str | None = None,
        object_id: str | None = None,
    ) -> AuditEventPage:
        """What happened to the things of whoever asks, or to all for an admin; raises InvalidInputError."""
        check_window(limit)
        given = {"action": action, "object_kind": object_kind, "object_id": object_id}
        statement = (
            select(AuditEvent)
            .where(_visible_to(principal))
            .filter_by(**{name: value for name, value in given.items() if value is not None})
            .order_by(AuditEvent.id.desc())
            .limit(limit + 1)
        )
        if (last := _number(after_token(token))) is not None:
            statement = statement.where(AuditEvent.id < last)
        with self.database().transaction() as session:
            rows = session.scalars(statement).all()
        items = tuple(view(AuditEventView, row) for row in rows[:limit])
        has_more = len(rows) > limit
        return AuditEventPage(items, has_more, continuation_token(str(items[-1].id)) if has_more else None)

    def note(self, action: str, **more: Any) -> None:
        """Record what an operator did outside of the database; `more` are fields of a Draft."""
        with self.database().transaction() as session:
            self.trail.record(session, action, **more)

    def verify(self, check: ChainCheck) -> Iterator[Finding]:
        """Walk over the whole log as it is at one moment; raises UnavailableError."""
        with self.database().transaction() as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            _begin_after_pruned(session, check)
            for row in _events(session):
                yield from check.row(row)
            yield from check.end(session.execute(select(AuditHead.__table__)).one_or_none())

    def check(self, anchor: Place | None = None) -> ChainCheck:
        """A check for `verify`, with the keys of this installation."""
        return ChainCheck(self.trail.sealer, anchor)

    def prune(self, before: datetime) -> int:
        """Drop the events before a moment; the log then begins with the event after them, and says so.

        Only the beginning of the log can go, and never its last event. Returns how many went.
        """
        with self.database().transaction() as session:
            newest = session.scalar(select(func.max(AuditEvent.id)))
            kept = session.scalar(select(func.min(AuditEvent.id)).where(AuditEvent.at >= before))
        total, end = 0, kept or newest or 0
        while number := self._prune_some(end):
            total += number
        return total

    def _prune_some(self, end: int) -> int:
        with self.database().transaction() as session:
            first = select(func.min(AuditEvent.id)).scalar_subquery()
            going = select(AuditEvent.id, AuditEvent.mac).where(
                AuditEvent.id < end, AuditEvent.id < first + _PRUNED_AT_ONCE
            )
            last = session.execute(going.order_by(AuditEvent.id.desc()).limit(1)).one_or_none()
            if last is None:
                return 0
            session.execute(text("SET LOCAL semantic_explorer.prune_audit = 'on'"))
            gone = session.execute(delete(AuditEvent).where(AuditEvent.id <= last.id))
            number = cast("CursorResult[Any]", gone).rowcount
            details = {"last_id": last.id, "mac": last.mac.hex(), "count": number}
            self.trail.record(session, _PRUNED, details=details)
            return number


def _visible_to(principal: Principal) -> ColumnElement[bool]:
    """Which events a principal may read: an admin all, the installation's own among them; else one's own."""
    return true() if principal.role.covers(Role.ADMIN) else AuditEvent.owner_id == principal.owner_id


def _number(last: str | None) -> int | None:
    if last is None:
        return None
    if not last.isdecimal() or len(last) > 18:  # noqa: PLR2004 digits of a bigint
        raise InvalidInputError("continuation_token was not made by this server", field="continuation_token")
    return int(last)


def _begin_after_pruned(session: Session, check: ChainCheck) -> None:
    statement = select(AuditEvent.details).where(AuditEvent.action == _PRUNED).order_by(AuditEvent.id.desc())
    details = session.scalar(statement.limit(1))
    if details is not None:
        check.last_id, check.mac = int(details["last_id"]), bytes.fromhex(details["mac"])


def _events(session: Session) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as reader:  # Postgres reads the next ones while these are checked
        rows = _some_events(session, None)
        while rows:
            coming = reader.submit(_some_events, session, rows[-1].id)
            yield from rows
            rows = coming.result()


def _some_events(session: Session, last: int | None) -> Sequence[Any]:
    number = AuditEvent.__table__.c.id  # of the table: with the class around it, reading costs as much again
    statement = select(*COLUMNS).order_by(number).limit(_CHECKED_AT_ONCE)
    return session.execute(statement if last is None else statement.where(number > last)).all()
