"""What the reconciler found, and when: the first place to look when a job seems to have been lost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.postgres.tables.base import Base


class Reconciliation(Base):
    """One pass. `found` counts by cause, e.g. {"overdue": 2} or {"files_without_object": 1}.

    A pass over jobs names the first ones of each cause ("job_ids"). A sweep also names what the next one asks
    for ("unowned_indexes", "by_ids") and "unowned_letters".
    """

    __tablename__ = "reconciliations"
    __table_args__ = (Index("ix_reconciliations_started_at", "started_at"),)

    reconciliation_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    found: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
