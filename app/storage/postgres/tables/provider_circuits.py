"""Providers that fail or are full, as all processes see them; one that answers has no row."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Float, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class ProviderCircuit(Base):
    """An address called with one key. Open until `open_until`; not logged: after a crash all are closed."""

    __tablename__ = "provider_circuits"
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 - as SQLAlchemy wants it

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    failures: Mapped[int] = mapped_column(Integer)  # in a row
    cause: Mapped[str] = mapped_column(Text)  # of the last one, without anybody's words
    open_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # How long it was opened for; twice as long after each probe that fails.
    open_seconds: Mapped[float] = mapped_column(Float, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), index=True)
