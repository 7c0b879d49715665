"""LLMs: a configured provider and language model."""

from __future__ import annotations

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Configured, Owned, Timestamps


class LlmRow(Base, Configured, Owned, Timestamps):
    """Names topics."""

    __tablename__ = "llms"

    llm_id: Mapped[int] = mapped_column(Integer, primary_key=True)
