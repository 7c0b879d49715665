"""What passes of the reconciler and of the sweeps found: written down by them, read by whoever asks later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from app.storage.postgres.session import Database
from app.storage.postgres.tables.reconciliations import Reconciliation

_QUIET = timedelta(hours=1)  # a pass that found nothing is written down no more often
_KEPT = timedelta(days=30)
_NAMED = 20  # jobs per cause that are written down by id: enough to look some up


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass that was written down; `finished_at` is None where it was cut off."""

    started_at: datetime
    finished_at: datetime | None
    found: Mapping[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """How many by cause, those that were found at all."""
        numbers = {cause: value for cause, value in self.found.items() if type(value) is int}
        return {cause: number for cause, number in numbers.items() if number}

    @property
    def job_ids(self) -> Mapping[str, Sequence[str]]:
        """By cause, the first 20 jobs of it."""
        named: Mapping[str, Sequence[str]] = self.found.get("job_ids", {})
        return named


def write_down(
    session: Session, counts: Mapping[str, int], job_ids: Mapping[str, Sequence[UUID]] | None = None
) -> None:
    """Keep what the pass of this transaction found; nothing at most once an hour, all of it for 30 days."""
    session.execute(delete(Reconciliation).where(Reconciliation.started_at < func.now() - _KEPT))
    recent = exists().where(Reconciliation.started_at > func.now() - _QUIET)
    if any(counts.values()) or not session.scalar(select(recent)):
        named = {cause: [str(each) for each in ids[:_NAMED]] for cause, ids in (job_ids or {}).items() if ids}
        found = {**counts, "job_ids": named} if named else dict(counts)
        # now() is when the transaction began.
        session.add(Reconciliation(started_at=func.now(), finished_at=func.clock_timestamp(), found=found))


def newest_passes(database: Database, limit: int) -> list[Pass]:
    """The passes that were written down last, the newest first. Raises UnavailableError."""
    newest = select(Reconciliation).order_by(Reconciliation.started_at.desc()).limit(limit)
    with database.transaction() as session:
        return [Pass(row.started_at, row.finished_at, row.found) for row in session.scalars(newest)]
