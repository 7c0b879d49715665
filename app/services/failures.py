"""What a given-up job means for the things it was meant to make: they show the cause to their owner."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from app.errors import ExplorerError
from app.storage.postgres.tables import FileExtraction, ItemEmbedding, Visualization

_MESSAGE_LENGTH = 2000


def mark_failed(session: Session, job_id: UUID, error: ExplorerError) -> None:
    """Mark whatever waits for this job as failed; each kind of job has rows in one of the tables only."""
    cause = {"error_code": error.code, "error_message": error.message[:_MESSAGE_LENGTH]}
    for table in (FileExtraction, ItemEmbedding):
        session.execute(
            update(table)
            .where(table.job_id == job_id, table.state == "pending")
            .values(state="failed", processed_at=func.now(), **cause)
        )
    session.execute(
        update(Visualization)
        .where(Visualization.job_id == job_id, Visualization.status.in_(("pending", "processing")))
        .values(status="failed", completed_at=func.now(), error_message=cause["error_message"])
    )
