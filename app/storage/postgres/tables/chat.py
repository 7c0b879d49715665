"""Chat: sessions over one embedded dataset, their messages, and the passages that an answer was made from."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import REAL, BigInteger, CheckConstraint, ForeignKey, Index, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base, Owned, Timestamps


class ChatSession(Base, Owned, Timestamps):
    """A conversation. It can be read after its embedded dataset or its LLM is gone, but not continued."""

    __tablename__ = "chat_sessions"

    session_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    embedded_dataset_id: Mapped[int | None] = mapped_column(
        ForeignKey("embedded_datasets.embedded_dataset_id", ondelete="SET NULL"), index=True
    )
    llm_id: Mapped[int | None] = mapped_column(ForeignKey("llms.llm_id", ondelete="SET NULL"), index=True)


class ChatMessage(Base, Timestamps):
    """A question, or the answer to the question before it.

    An answer is `incomplete` from its first moment until it is whole, so that whatever dies leaves no half
    answer that passes for one; `options` are those that it was asked for with.
    """

    __tablename__ = "chat_messages"
    __table_args__ = (
        CheckConstraint("role IN ('user', 'assistant')", name="role"),
        CheckConstraint("status IN ('complete', 'incomplete', 'error')", name="status"),
        Index("ix_chat_messages_session_id_message_id", "session_id", "message_id"),
    )

    message_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    session_id: Mapped[int] = mapped_column(ForeignKey("chat_sessions.session_id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(Text)
    content: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    was_cut: Mapped[bool] = mapped_column(server_default=text("false"))  # at the limit of tokens
    error_code: Mapped[str | None] = mapped_column(Text)
    error_message: Mapped[str | None] = mapped_column(Text)
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))


class ChatCitation(Base):
    """A passage that the model was shown as [number]; its text is where it always is, and may be gone."""

    __tablename__ = "chat_citations"

    message_id: Mapped[int] = mapped_column(
        ForeignKey("chat_messages.message_id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # No foreign keys: that a passage was shown stays true after its document is deleted or cut anew.
    chunk_id: Mapped[UUID] = mapped_column(Uuid)
    item_id: Mapped[int] = mapped_column(BigInteger)
    similarity_score: Mapped[float] = mapped_column(REAL)
    is_cited: Mapped[bool] = mapped_column()  # whether the answer names the number
