"""API tokens: keys for machines. A token does what its owner may, up to its scope, and ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.security.principal import Principal, Role, lesser
from app.security.tokens import digest, fresh_api_token
from app.services.described import check_title
from app.services.paging import Page, check_window
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.pages import count
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ApiToken, Owner, User

Scope = Literal["read", "write", "admin"]
ROLE_OF_SCOPE = {"read": Role.VIEWER, "write": Role.OPERATOR, "admin": Role.ADMIN}
LONGEST_DAYS = 366
MOST_TOKENS = 100
_NOTED_EVERY = timedelta(seconds=60)
_SHOWN_CHARACTERS = 4
_NEWEST_FIRST = (
    Key("created_at", ApiToken.created_at, descending=True),
    Key("api_token_id", ApiToken.api_token_id, descending=True),
)


@dataclass(frozen=True, slots=True)
class ApiTokenView:
    """A token without its secret; `ending` are the secret's last characters."""

    api_token_id: int
    name: str
    scope: str
    ending: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token and its secret, which is shown this once."""

    view: ApiTokenView
    secret: str


@dataclass(frozen=True, slots=True)
class ApiTokens:
    """Verbs on API tokens."""

    database: Database

    def create(self, principal: Principal, *, name: str, scope: Scope, expires_in_days: int) -> NewApiToken:
        """Make a token; raises InvalidInputError, and ConflictError for the 101st."""
        if not 1 <= expires_in_days <= LONGEST_DAYS:
            raise InvalidInputError(
                f"expires_in_days must lie between 1 and {LONGEST_DAYS}", field="expires_in_days"
            )
        if not principal.role.covers(ROLE_OF_SCOPE[scope]):
            raise InvalidInputError(f"scope must not exceed your role, {principal.role}", field="scope")
        secret = fresh_api_token()
        row = ApiToken(
            owner_id=principal.owner_id,
            name=check_title(name, field="name"),
            scope=scope,
            token_hash=digest(secret),
            ending=secret[-_SHOWN_CHARACTERS:],
            expires_at=datetime.now(UTC) + timedelta(days=expires_in_days),
        )
        with self.database.transaction() as session:
            _refuse_too_many(session, principal)
            session.add(row)
            session.flush()
            session.refresh(row)
            return NewApiToken(view(ApiTokenView, row), secret)

    def list(
        self, principal: Principal, *, limit: int = 20, offset: int = 0, cursor: str | None = None
    ) -> Page[ApiTokenView]:
        """The owner's tokens, newest first, those that have ended too."""
        check_window(limit, offset)
        mine = select(ApiToken).where(ApiToken.owner_id == principal.owner_id)
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, mine, _NEWEST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(view(ApiTokenView, row) for (row,) in rows), total, limit, offset, following)

    def revoke(self, principal: Principal, api_token_id: int) -> None:
        """End a token at once; raises NotFoundError."""
        with self.database.transaction() as session:
            ended = session.execute(
                delete(ApiToken)
                .where(ApiToken.api_token_id == api_token_id, ApiToken.owner_id == principal.owner_id)
                .returning(ApiToken.api_token_id)
            ).all()
        if not ended:
            raise NotFoundError(f"no API token {api_token_id}")

    def find(self, secret: str) -> Principal | None:
        """Whom a token stands for, with the lesser of its scope and its owner's role; None when it is over.

        Raises UnavailableError.
        """
        with self.database.reading() as connection:
            found = connection.execute(_HOLDER, {"token_hash": digest(secret)}).one_or_none()
        if found is None:
            return None
        self._note(found.api_token_id, found.last_used_at)
        role = lesser(Role(found.role), ROLE_OF_SCOPE[found.scope])
        return Principal(found.owner_id, found.display_name, role)

    def _note(self, api_token_id: int, last_used_at: datetime | None) -> None:
        """When the token was used, to the minute: an update per request would cost more than it tells."""
        now = datetime.now(UTC)
        if last_used_at is not None and now - last_used_at <= _NOTED_EVERY:
            return
        with self.database.transaction() as session:
            session.execute(
                update(ApiToken).where(ApiToken.api_token_id == api_token_id).values(last_used_at=now)
            )


_HOLDER = (
    select(
        ApiToken.api_token_id,
        ApiToken.owner_id,
        ApiToken.scope,
        ApiToken.last_used_at,
        Owner.display_name,
        User.role,
    )
    .join(Owner, Owner.owner_id == ApiToken.owner_id)
    .join(User, User.owner_id == ApiToken.owner_id)
    .where(ApiToken.token_hash == bindparam("token_hash"), ApiToken.expires_at > func.now())
)


def _refuse_too_many(session: Session, principal: Principal) -> None:
    mine = select(ApiToken).where(ApiToken.owner_id == principal.owner_id)
    if count(session, mine) >= MOST_TOKENS:
        raise ConflictError(f"you have {MOST_TOKENS} API tokens: delete one that you do not need")
