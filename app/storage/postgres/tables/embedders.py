"""Embedders: a configured provider and model."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps


class EmbedderRow(Base, Owned, Timestamps):
    """The key is sealed (security/crypto) and leaves this table only towards the provider."""

    __tablename__ = "embedders"
    __table_args__ = (
        CheckConstraint("dimensions BETWEEN 1 AND 65536", name="dimensions"),
        CheckConstraint("batch_size BETWEEN 1 AND 2048", name="batch_size"),
        CheckConstraint("max_input_tokens >= 1", name="max_input_tokens"),
    )

    embedder_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    api_key_sealed: Mapped[str | None] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    batch_size: Mapped[int] = mapped_column(Integer)
    dimensions: Mapped[int] = mapped_column(Integer)
    max_input_tokens: Mapped[int] = mapped_column(Integer)
    truncate_strategy: Mapped[str] = mapped_column(Text)
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))
