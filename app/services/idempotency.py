"""A request that names itself is carried out once: its answer is kept and given again.

The row is claimed before the work and completed after it, in Postgres, so all web processes share it. Whoever
dies in between leaves a claim that ends by itself; only then may the request be begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CursorResult, Delete, ScalarSelect, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import ConflictError, UnprocessableError
from app.security.principal import Principal
from app.storage.postgres.session import Database
from app.storage.postgres.tables import IdempotentRequest as Row

KEPT = timedelta(hours=24)
# Longer than the work of any request takes; its body has been read before.
_CLAIMED = timedelta(minutes=15)
_SWEPT_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to carry a request out."""

    owner_id: str
    route: str
    key: str
    token: UUID


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered before: JSON, or the last event of a stream."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Verbs on requests that name themselves."""

    database: Database

    def begin(self, principal: Principal, *, route: str, key: str, fingerprint: str) -> Claim | Answer:
        """Claim the request, or return what it was answered.

        Raises UnprocessableError when the key stands for another request of that route, and ConflictError
        while the same one is under way.
        """
        claim = Claim(principal.owner_id, route, key, uuid4())
        with self.database.transaction() as session:
            session.execute(_sweep())
            if _taken(session, claim, fingerprint):
                return claim
            row = session.get_one(Row, (claim.owner_id, route, key))
        if row.fingerprint != fingerprint:
            raise UnprocessableError(
                f"this Idempotency-Key came with another request to {route} before: send a new key",
                field="Idempotency-Key",
            )
        if row.status is None or row.answer is None:
            raise ConflictError(
                "the first request with this Idempotency-Key is still under way: ask again later",
                field="Idempotency-Key",
            )
        return Answer(row.status, row.answer)

    def complete(self, claim: Claim, answer: Answer) -> None:
        """Keep the answer for a day."""
        with self.database.transaction() as session:
            session.execute(
                update(Row)
                .where(*_held(claim))
                .values(status=answer.status, answer=answer.body, expires_at=_after(KEPT))
            )

    def release(self, claim: Claim) -> None:
        """Forget the request: it did nothing, so it may be sent again."""
        with self.database.transaction() as session:
            session.execute(delete(Row).where(*_held(claim)))


def _taken(session: Session, claim: Claim, fingerprint: str) -> bool:
    values = {"fingerprint": fingerprint, "claim": claim.token, "expires_at": _after(_CLAIMED)}
    statement = insert(Row).values(owner_id=claim.owner_id, route=claim.route, key=claim.key, **values)
    again = {"status": None, "answer": None, "created_at": func.now()}
    result: CursorResult[Any] = session.execute(  # type: ignore[assignment] # what an INSERT returns
        statement.on_conflict_do_update(
            index_elements=["owner_id", "route", "key"],
            set_=values | again,
            where=Row.expires_at <= func.now(),
        )
    )
    return result.rowcount == 1


def _held(claim: Claim) -> tuple[Any, ...]:
    named = (Row.owner_id == claim.owner_id, Row.route == claim.route, Row.key == claim.key)
    return (*named, Row.claim == claim.token)


def _sweep() -> Delete:
    """Whoever adds a row takes away some that have expired; rows that somebody holds are left to him."""
    row = tuple_(Row.owner_id, Row.route, Row.key)
    expired: ScalarSelect[Any] = (
        select(Row.owner_id, Row.route, Row.key)
        .where(Row.expires_at <= func.now())
        .limit(_SWEPT_AT_ONCE)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    return delete(Row).where(row.in_(expired))


def _after(time: timedelta) -> Any:
    return func.now() + time
