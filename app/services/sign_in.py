"""Sign-in: to the identity provider and back, each way once and in one browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func

from app.errors import SignInRefusedError
from app.security.tokens import digest, fresh
from app.services.sessions import Browser, Sessions
from app.services.users import Users
from app.storage.postgres.session import Database
from app.storage.postgres.tables import SignInRow

if TYPE_CHECKING:
    from app.security.oidc import Provider

LIFETIME = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Departure:
    """Where to send the browser, and the secret that it must bring back in a cookie."""

    url: str
    browser_secret: str


@dataclass(frozen=True, slots=True)
class Return:
    """The token of the new session, and the page that was asked for at first."""

    session_token: str
    next_path: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """Verbs on sign-ins."""

    database: Database
    provider: Provider
    users: Users
    sessions: Sessions

    def begin(self, next_path: str) -> Departure:
        """Remember what must come back. Raises ProviderUnavailableError, UnavailableError."""
        state, nonce, verifier, browser_secret = (fresh() for _ in range(4))
        url = self.provider.authorization_url(state=state, nonce=nonce, verifier=verifier)
        with self.database.transaction() as session:
            session.execute(delete(SignInRow).where(SignInRow.expires_at <= func.now()))
            session.add(
                SignInRow(
                    state_hash=digest(state),
                    browser_hash=digest(browser_secret),
                    nonce=nonce,
                    code_verifier=verifier,
                    next_path=next_path,
                    expires_at=datetime.now(UTC) + LIFETIME,
                )
            )
        return Departure(url, browser_secret)

    def finish(
        self, answer: Mapping[str, str], browser_secret: str, browser: Browser, *, replaces: str | None
    ) -> Return:
        """Judge the provider's answer and open a session; `replaces` is the token of one to end.

        Raises SignInRefusedError, ProviderUnavailableError, UnavailableError.
        """
        begun = self._take(answer.get("state", ""), browser_secret)
        self.provider.check_answer(answer)
        arrival = self.provider.redeem(
            answer.get("code", ""), nonce=begun.nonce, verifier=begun.code_verifier
        )
        principal = self.users.admit(arrival.identity)
        token = self.sessions.open(principal, browser, id_token=arrival.id_token, replaces=replaces)
        return Return(token, begun.next_path)

    def _take(self, state: str, browser_secret: str) -> SignInRow:
        """The sign-in that this browser began, which nobody can take again."""
        with self.database.transaction() as session:
            row = session.scalar(
                delete(SignInRow)
                .where(
                    SignInRow.state_hash == digest(state),
                    SignInRow.browser_hash == digest(browser_secret),
                    SignInRow.expires_at > func.now(),
                )
                .returning(SignInRow)
            )
        if row is None:
            raise SignInRefusedError(
                "This sign-in was not begun in this browser, took over 10 minutes, or was used before. "
                "Begin again."
            )
        return row
