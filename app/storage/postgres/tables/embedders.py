"""Embedders: a configured provider and model."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Configured, Owned, Timestamps


class EmbedderRow(Base, Configured, Owned, Timestamps):
    """Turns text into vectors of one length."""

    __tablename__ = "embedders"
    __table_args__ = (
        CheckConstraint("dimensions BETWEEN 1 AND 65536", name="dimensions"),
        CheckConstraint("batch_size BETWEEN 1 AND 2048", name="batch_size"),
        CheckConstraint("max_input_tokens >= 1", name="max_input_tokens"),
    )

    embedder_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    batch_size: Mapped[int] = mapped_column(Integer)
    dimensions: Mapped[int] = mapped_column(Integer)
    max_input_tokens: Mapped[int] = mapped_column(Integer)
    truncate_strategy: Mapped[str] = mapped_column(Text)
