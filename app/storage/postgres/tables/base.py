"""Declarative base, naming convention and the columns that every owned table has."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, ForeignKey, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Constraint names are spelled out so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Timestamps:
    """When a row was made and last changed, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class Owned:
    """Every row belongs to an owner; every query says which."""

    owner_id: Mapped[str] = mapped_column(Text, ForeignKey("owners.owner_id", ondelete="CASCADE"), index=True)


class Described:
    """What a user writes on a thing to find it again."""

    title: Mapped[str] = mapped_column(Text)
    details: Mapped[str | None] = mapped_column(Text)


class Configured:
    """A provider and model. The key is sealed (security/crypto) and leaves only towards the provider."""

    name: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    api_key_sealed: Mapped[str | None] = mapped_column(
        Text, info={"secret": "api_key"}
    )  # services/secrets.py
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))
