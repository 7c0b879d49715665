"""LLMs: a configured provider and language model."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps


class LlmRow(Base, Owned, Timestamps):
    """The key is sealed (security/crypto) and leaves this table only towards the provider."""

    __tablename__ = "llms"

    llm_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str | None] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    api_key_sealed: Mapped[str | None] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))
