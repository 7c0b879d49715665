"""Who paused a queue, until when and why. Whether it is paused is the broker's to know."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Index, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class QueuePause(Base):
    """One pause; the newest row of a queue tells of the pause at hand. It outlives whoever asked for it."""

    __tablename__ = "queue_pauses"
    __table_args__ = (Index("ix_queue_pauses_queue_queue_pause_id", "queue", "queue_pause_id"),)

    queue_pause_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    queue: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    reason: Mapped[str] = mapped_column(Text)
    paused_by: Mapped[str] = mapped_column(Text)
    paused_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    resumed_by: Mapped[str | None] = mapped_column(Text)
    resumed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
