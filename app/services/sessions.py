"""Sessions: which browsers are signed in. Programs' (programs.py) are listed and ended here, too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Interval, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from app.errors import ExplorerError, NotFoundError
from app.security.crypto import SecretBox
from app.security.principal import Principal, Role
from app.security.tokens import digest, fresh
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Owner, SessionRow, User

# A busy page asks many times a second; the time of the last request need not be that exact.
NOTED_EVERY = timedelta(seconds=60)
IS_BROWSER: ColumnElement[bool] = SessionRow.family_hash.is_(None)
_MOST_AGENT = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts, how long it may lie unused, and how many a user may have."""

    lifetime: timedelta
    idle: timedelta
    most: int


@dataclass(frozen=True, slots=True)
class Browser:
    """Where a session is opened from, for its user to recognize."""

    ip_address: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whom a session's cookie stands for."""

    session_id: int
    principal: Principal


@dataclass(frozen=True, slots=True)
class SessionView:
    """One session as its user sees it. `expires_at` holds if it is used until then."""

    session_id: int
    kind: Literal["browser", "program"]
    created_at: datetime
    last_activity: datetime
    expires_at: datetime
    ip_address: str | None
    user_agent: str | None
    is_current: bool


@dataclass(frozen=True, slots=True)
class Sessions:
    """Verbs on sessions."""

    database: Database
    secrets: SecretBox
    limits: Limits

    def open(self, principal: Principal, browser: Browser, *, id_token: str, replaces: str | None) -> str:
        """Begin a session and return its token, which is nowhere else; `replaces` is the token it follows.

        Raises UnavailableError.
        """
        token = fresh()
        row = SessionRow(
            owner_id=principal.owner_id,
            token_hash=digest(token),
            expires_at=datetime.now(UTC) + self.limits.lifetime,
            ip_address=browser.ip_address,
            user_agent=(browser.user_agent or "")[:_MOST_AGENT] or None,
        )
        with self.database.transaction() as session:
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= func.now()))
            if replaces is not None:
                session.execute(delete(SessionRow).where(SessionRow.token_hash == digest(replaces)))
            make_room(session, principal.owner_id, self.limits.most, IS_BROWSER)
            session.add(row)
            session.flush()
            if self.secrets.enabled:
                row.id_token_sealed = self.secrets.encrypt(id_token, **_place(row))
        return token

    def find(self, token: str, *, used: bool = True) -> SignedIn | None:
        """Whose session it is, None when it is over; `used` puts off its end by idleness.

        Raises UnavailableError.
        """
        values = {"token_hash": digest(token), "idle": self.limits.idle}
        with self.database.reading() as connection:
            found = connection.execute(_HOLDER, values).one_or_none()
        if found is None:
            return None
        if used and datetime.now(UTC) - found.last_seen_at > NOTED_EVERY:
            with self.database.transaction() as session:
                note_use(session, found.session_id)
        return signed_in(found)

    def list(self, principal: Principal, *, current: int | None) -> tuple[SessionView, ...]:
        """The user's live sessions, programs' too, last used first."""
        mine = select(SessionRow).where(SessionRow.owner_id == principal.owner_id, self._alive())
        with self.database.transaction() as session:
            rows = session.scalars(mine.order_by(SessionRow.last_seen_at.desc(), SessionRow.session_id))
            return tuple(_view(row, current) for row in rows)

    def revoke(self, principal: Principal, session_id: int) -> None:
        """End one of the user's sessions; raises NotFoundError."""
        with self.database.transaction() as session:
            ended = session.execute(
                delete(SessionRow)
                .where(SessionRow.session_id == session_id, SessionRow.owner_id == principal.owner_id)
                .returning(SessionRow.session_id)
            ).all()
        if not ended:
            raise NotFoundError(f"no session {session_id}")

    def revoke_others(self, principal: Principal, *, current: int | None) -> int:
        """End all of the user's sessions but the current one; returns how many."""
        others = SessionRow.session_id.is_distinct_from(current)
        with self.database.transaction() as session:
            return len(
                session.execute(
                    delete(SessionRow)
                    .where(SessionRow.owner_id == principal.owner_id, others)
                    .returning(SessionRow.session_id)
                ).all()
            )

    def close(self, token: str) -> str | None:
        """End the session; returns the ID token that began it, where it was kept."""
        with self.database.transaction() as session:
            row = session.scalar(select(SessionRow).where(SessionRow.token_hash == digest(token)))
            if row is None:
                return None
            session.delete(row)
            return self._id_token(row)

    def _alive(self) -> ColumnElement[bool]:
        in_use = SessionRow.last_seen_at > func.now() - self.limits.idle
        return (SessionRow.expires_at > func.now()) & (in_use | ~IS_BROWSER)

    def _id_token(self, row: SessionRow) -> str | None:
        if row.id_token_sealed is None:
            return None
        try:
            return self.secrets.decrypt(row.id_token_sealed, **_place(row))
        except ExplorerError:  # the key has changed meanwhile: nobody must stay signed in for that
            return None


def make_room(session: Session, owner_id: str, most: int, kind: ColumnElement[bool]) -> None:
    """End the owner's oldest sessions of a kind, so that with one more there are at most `most`."""
    newest = (
        select(SessionRow.session_id)
        .where(SessionRow.owner_id == owner_id, kind)
        .order_by(SessionRow.created_at.desc())
        .limit(most - 1)
    )
    surplus = SessionRow.session_id.not_in(newest.scalar_subquery())
    session.execute(delete(SessionRow).where(SessionRow.owner_id == owner_id, kind, surplus))


def note_use(session: Session, session_id: int) -> None:
    """The session was seen now."""
    session.execute(
        update(SessionRow).where(SessionRow.session_id == session_id).values(last_seen_at=func.now())
    )


def holder() -> Select[Any]:
    """Sessions with whose they are, as `signed_in` takes a row; what is put to it decides which."""
    return (
        select(SessionRow.session_id, SessionRow.last_seen_at, Owner.owner_id, Owner.display_name, User.role)
        .join(Owner, Owner.owner_id == SessionRow.owner_id)
        .join(User, User.owner_id == SessionRow.owner_id)
    )


def signed_in(row: Row[Any]) -> SignedIn:
    """Whom a row of `holder` stands for."""
    return SignedIn(row.session_id, Principal(row.owner_id, row.display_name, Role(row.role)))


_HOLDER = holder().where(
    SessionRow.token_hash == bindparam("token_hash"),
    IS_BROWSER,
    SessionRow.expires_at > func.now(),
    SessionRow.last_seen_at > func.now() - bindparam("idle", type_=Interval),
)


def _place(row: SessionRow) -> dict[str, str]:
    return {
        "table": "sessions",
        "column": "id_token_sealed",
        "row": str(row.session_id),
        "owner": row.owner_id,
    }


def _view(row: SessionRow, current: int | None) -> SessionView:
    return SessionView(
        session_id=row.session_id,
        kind="browser" if row.family_hash is None else "program",
        created_at=row.created_at,
        last_activity=row.last_seen_at,
        expires_at=row.expires_at,
        ip_address=row.ip_address,
        user_agent=row.user_agent,
        is_current=row.session_id == current,
    )
