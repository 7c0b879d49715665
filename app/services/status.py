"""Says on the status stream what happened to a transform."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.events.ports import StatusPublisher
from app.events.types import StatusEvent


@dataclass(frozen=True, slots=True)
class Subject:
    """The transform an event is about, what that transform reads, and of which of its runs the event is."""

    transform_type: str  # collection, dataset or visualization
    transform_id: int
    resource_id: int
    owner_id: str
    run_id: UUID | None = None  # of a map it is named by its job


def tell(
    publisher: StatusPublisher,
    subject: Subject,
    status: str,
    *,
    job_id: UUID | None = None,
    stage: str | None = None,
    progress: float | None = None,
    error: str | None = None,
    **detail: Any,
) -> None:
    """Publish one event; `status` is pending, processing, success or failed.

    Its detail has the run's id as `run_id`, beside what else is given.
    """
    if subject.run_id is not None:
        detail["run_id"] = str(subject.run_id)
    publisher.publish(
        StatusEvent(
            transform_type=subject.transform_type,
            transform_id=subject.transform_id,
            resource_id=subject.resource_id,
            owner_id=subject.owner_id,
            status=status,
            timestamp=datetime.now(UTC).isoformat(),
            job_id=str(job_id) if job_id else None,
            stage=stage,
            progress=progress,
            error=error,
            detail=detail,
        )
    )
