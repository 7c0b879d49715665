"""Requests that named themselves, and what they were answered."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Integer, LargeBinary, Text, Uuid, func
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class IdempotentRequest(Base):
    """A request by its owner, its route and the key that its client gave it.

    Without `status` it is under way: `claim` says by whom, and until `expires_at` nobody else may begin it.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (Index("ix_idempotent_requests_expires_at", "expires_at"),)

    owner_id: Mapped[str] = mapped_column(
        Text, ForeignKey("owners.owner_id", ondelete="CASCADE"), primary_key=True
    )
    route: Mapped[str] = mapped_column(Text, primary_key=True)  # method and path, without the query
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)  # of query and body
    claim: Mapped[UUID] = mapped_column(Uuid)
    status: Mapped[int | None] = mapped_column(Integer)
    answer: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
