"""Users: the owners whom the identity provider knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.security.principal import Principal, Role
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Owner, User

if TYPE_CHECKING:
    from app.security.oidc import Identity


@dataclass(frozen=True, slots=True)
class UserView:
    """The one who asks. `username`, `email` and `avatar` are the provider's, where it tells them."""

    owner_id: str
    display_name: str
    role: str
    username: str | None
    email: str | None
    avatar: str | None


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user under the names of OpenID Connect; `email_verified` is known at sign-in only."""

    sub: str
    preferred_username: str | None
    email: str | None
    name: str | None
    picture: str | None
    email_verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Users:
    """Verbs on users. `default_role` is for whom the provider has never named one."""

    database: Database
    default_role: Role

    def admit(self, identity: Identity) -> Principal:
        """Write down what the provider says; what it does not say stays as it was known.

        Raises UnavailableError.
        """
        with self.database.transaction() as session:
            name = _keep_owner(session, identity)
            role = _keep_user(session, identity, self.default_role)
        return Principal(identity.owner_id, name, Role(role))

    def describe(self, principal: Principal) -> UserView:
        """Who asks; of the single user there is only a name. Raises UnavailableError."""
        with self.database.transaction() as session:
            row = session.get(User, principal.owner_id)
        return UserView(
            owner_id=principal.owner_id,
            display_name=principal.display_name,
            role=principal.role,
            username=row.username if row else None,
            email=row.email if row else None,
            avatar=row.picture if row else None,
        )

    def info(self, owner_id: str) -> UserInfo:
        """The user as the provider last described them. Raises UnavailableError."""
        with self.database.transaction() as session:
            row, owner = session.get_one(User, owner_id), session.get_one(Owner, owner_id)
            return UserInfo(row.subject, row.username, row.email, owner.display_name, row.picture)


def _keep_owner(session: Session, identity: Identity) -> str:
    """The owner's name: access tokens often tell none, and must not undo the one that sign-in told."""
    told = identity.name or identity.username or identity.email
    statement = insert(Owner).values(owner_id=identity.owner_id, display_name=told or identity.subject)
    kept = statement.on_conflict_do_update(
        index_elements=["owner_id"], set_={"display_name": told or Owner.display_name}
    )
    return session.scalars(kept.returning(Owner.display_name)).one()


def _keep_user(session: Session, identity: Identity, default_role: Role) -> str:
    told: dict[str, Any] = {
        "username": identity.username,
        "email": identity.email,
        "picture": identity.picture,
        "role": identity.role,
    }
    told = {name: value for name, value in told.items() if value is not None}
    statement = insert(User).values(
        owner_id=identity.owner_id,
        issuer=identity.issuer,
        subject=identity.subject,
        **{"role": default_role, **told},
    )
    kept = statement.on_conflict_do_update(
        index_elements=["owner_id"], set_=told | {"updated_at": func.now()}
    )
    return session.scalars(kept.returning(User.role)).one()
