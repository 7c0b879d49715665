"""Programs that a person signed in: access tokens that end soon, and refresh tokens that are good once.

A refresh token has two secrets, `sxr_<family>.<turn>`: the family is the session's from beginning to end, the
turn is another each time. A right family with a turn that is over means that two have the token, of whom one
stole it; nobody can tell which, so the session ends for both.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hmac import compare_digest

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.orm import Session

from app.errors import UnauthenticatedError
from app.security.principal import Principal
from app.security.tokens import ACCESS_TOKEN_PREFIX, REFRESH_TOKEN_PREFIX, digest, fresh
from app.services.audit_trail import FAILURE, SUCCESS, AuditTrail
from app.services.sessions import (
    IS_BROWSER,
    NOTED_EVERY,
    Browser,
    Limits,
    SignedIn,
    holder,
    make_room,
    note_use,
    signed_in,
)
from app.storage.postgres.session import Database
from app.storage.postgres.tables import SessionRow

_LOG = logging.getLogger(__name__)

ACCESS_LIFETIME = timedelta(minutes=15)
_MOST_AGENT = 256


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a program holds; `expires_in` are the seconds until it must refresh."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class Programs:
    """Verbs on the sessions of programs. They last as long as a browser's, and do not end by idleness."""

    database: Database
    trail: AuditTrail
    limits: Limits

    def open(self, principal: Principal, at: Browser) -> Tokens:
        """Begin a session; its tokens are nowhere else. Raises UnavailableError."""
        family = fresh()
        row = SessionRow(
            owner_id=principal.owner_id,
            family_hash=digest(family),
            expires_at=datetime.now(UTC) + self.limits.lifetime,
            ip_address=at.ip_address,
            user_agent=(at.user_agent or "")[:_MOST_AGENT] or None,
        )
        tokens = _turn(row, family)
        with self.database.transaction() as session:
            session.execute(delete(SessionRow).where(SessionRow.expires_at <= func.now()))
            make_room(session, principal.owner_id, self.limits.most, ~IS_BROWSER)
            session.add(row)
        return tokens

    def refresh(self, refresh_token: str) -> tuple[Tokens, str]:
        """New tokens for one that is good, which is spent with that, and whose they are (owner's id).

        Raises UnauthenticatedError, also for one that was spent before: its session is ended then.
        """
        family, _, turn = refresh_token.removeprefix(REFRESH_TOKEN_PREFIX).partition(".")
        with self.database.transaction() as session:
            row = session.scalar(
                select(SessionRow)
                .where(SessionRow.family_hash == digest(family), SessionRow.expires_at > func.now())
                .with_for_update()
            )
            if row is not None and compare_digest(row.refresh_hash or "", digest(turn)):
                self._record(session, row, "session.refreshed", SUCCESS)
                return _turn(row, family), row.owner_id
            if row is not None:
                self._record(session, row, "session.refresh_token_reused", FAILURE)
                session.delete(row)
        _LOG.warning("refresh token refused", extra={"reason": "reused" if row else "unknown"})
        raise UnauthenticatedError("the refresh token is not good: sign in again", field="refresh_token")

    def find(self, access_token: str) -> SignedIn | None:
        """Whose session an access token belongs to; None when either is over. Raises UnavailableError."""
        values = {"token_hash": digest(access_token)}
        with self.database.reading() as connection:
            found = connection.execute(_HOLDER, values).one_or_none()
        if found is None:
            return None
        if datetime.now(UTC) - found.last_seen_at > NOTED_EVERY:
            with self.database.transaction() as session:
                note_use(session, found.session_id)
        return signed_in(found)

    def _record(self, session: Session, row: SessionRow, action: str, outcome: str) -> None:
        self.trail.record(
            session,
            action,
            object_kind="session",
            object_id=str(row.session_id),
            owner_id=row.owner_id,
            outcome=outcome,
        )


_HOLDER = holder().where(
    SessionRow.token_hash == bindparam("token_hash"),
    SessionRow.access_expires_at > func.now(),
    SessionRow.expires_at > func.now(),
)


def _turn(row: SessionRow, family: str) -> Tokens:
    """Give the session its next pair of tokens; those before are over."""
    access, turn, now = ACCESS_TOKEN_PREFIX + fresh(), fresh(), datetime.now(UTC)
    row.token_hash, row.refresh_hash = digest(access), digest(turn)
    row.access_expires_at = min(now + ACCESS_LIFETIME, row.expires_at)
    row.last_seen_at = now
    seconds = int((row.access_expires_at - now).total_seconds())
    return Tokens(access, f"{REFRESH_TOKEN_PREFIX}{family}.{turn}", seconds)
