"""How much of their rate limits people, tokens and addresses have used in the last minute."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class RateLimitRow(Base):
    """A bucket: empty at `empty_at`, and fuller the later that is. Not logged: a crash forgives everybody."""

    __tablename__ = "rate_limits"
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 - as SQLAlchemy wants it

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    empty_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
