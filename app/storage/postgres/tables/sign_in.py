"""Who signs in and how: users, sessions, sign-ins under way, API tokens. Of every secret only the digest."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps

_ROLES = "role IN ('viewer', 'operator', 'admin')"


class User(Base, Timestamps):
    """An owner who signs in at the identity provider, as the provider last described them."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_issuer_subject", "issuer", "subject", unique=True),
        CheckConstraint(_ROLES, name="role"),
    )

    owner_id: Mapped[str] = mapped_column(
        Text, ForeignKey("owners.owner_id", ondelete="CASCADE"), primary_key=True
    )
    issuer: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    username: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    picture: Mapped[str | None] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)


class SessionRow(Base, Owned):
    """A browser or a program that is signed in. It ends at `expires_at`; a browser's also when it is idle.

    `token_hash` is that of a browser's cookie, or of a program's access token, which ends before the session:
    then a refresh token is traded for the next. All of a session's share what `family_hash` is the digest of;
    the one that is good now has `refresh_hash`.
    """

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_expires_at", "expires_at"),)

    session_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    token_hash: Mapped[str] = mapped_column(Text, unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    ip_address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    # Shown to the provider at sign-out.
    id_token_sealed: Mapped[str | None] = mapped_column(Text, info={"secret": "id_token_sealed"})
    family_hash: Mapped[str | None] = mapped_column(Text, unique=True)  # of a browser's: none
    refresh_hash: Mapped[str | None] = mapped_column(Text)
    access_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class SignInRow(Base):
    """A person on the way to the provider and back; taken away by the first answer."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index("ix_sign_ins_expires_at", "expires_at"),)

    state_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    browser_hash: Mapped[str] = mapped_column(Text)
    nonce: Mapped[str] = mapped_column(Text)
    code_verifier: Mapped[str] = mapped_column(Text)
    next_path: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class ApiToken(Base, Owned):
    """A machine's key to what its owner may do, up to `scope`."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("scope IN ('read', 'write', 'admin')", name="scope"),)

    api_token_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    scope: Mapped[str] = mapped_column(Text)
    token_hash: Mapped[str] = mapped_column(Text, unique=True)
    ending: Mapped[str] = mapped_column(Text)  # the last characters, to tell tokens apart
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
