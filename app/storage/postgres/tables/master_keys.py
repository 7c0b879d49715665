"""Since when each master key has been in use: its id, never the key."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import DateTime, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class MasterKey(Base):
    """A key that was the active one of some process."""

    __tablename__ = "master_keys"

    key_id: Mapped[str] = mapped_column(Text, primary_key=True)
    first_used_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
