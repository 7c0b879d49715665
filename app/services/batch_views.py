"""An embedding job as a batch: in the words that clients know its states by, and in any of its orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.tables import Job

BatchStatus = Literal["pending", "processing", "success", "failed", "skipped"]
# What a list can be narrowed to: a status, or a state of the job behind it.
BatchFilter = BatchStatus | Literal["running", "retrying", "succeeded", "dead", "cancelled"]
BatchSortBy = Literal[
    "created_at", "batch_key", "status", "chunk_count", "processing_duration_ms", "processed_at"
]
_STATUS_OF: Mapping[str, BatchStatus] = {
    "pending": "pending",
    "running": "processing",
    "retrying": "processing",
    "succeeded": "success",
    "dead": "failed",
    "cancelled": "skipped",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """One embedding job; `state` is the job's own word for its `status`."""

    batch_key: UUID
    embedded_dataset_id: int | None
    status: BatchStatus
    state: str
    item_count: int
    chunk_count: int | None
    processing_duration_ms: int | None
    attempt: int
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    processed_at: datetime | None


def batch_of(job: Job) -> Batch:
    """An embedding job as a batch."""
    return Batch(
        batch_key=job.job_id,
        embedded_dataset_id=job.scope_id,
        status=_STATUS_OF[job.state],
        state=job.state,
        item_count=len(job.arguments.get("item_ids", ())),
        chunk_count=job.outcome.get("chunks"),
        processing_duration_ms=_duration_ms(job),
        attempt=job.attempt,
        error_code=job.error_code,
        error_message=job.error_message,
        created_at=job.created_at,
        started_at=job.started_at,
        processed_at=job.finished_at,
    )


def has_status(wanted: BatchFilter) -> ColumnElement[bool]:
    """Whether a job is a batch of this status or state."""
    states = [state for state, status in _STATUS_OF.items() if status == wanted]
    return Job.state.in_(states or [wanted])


def batch_order(sort_by: BatchSortBy, *, descending: bool) -> tuple[Key, Key]:
    """Embedding jobs by one of their columns."""
    column: ColumnElement[Any] | InstrumentedAttribute[Any] = {
        "created_at": Job.created_at,
        "batch_key": Job.job_id,
        "status": Job.state,
        "chunk_count": Job.outcome["chunks"].as_integer(),
        "processing_duration_ms": Job.finished_at - Job.started_at,
        "processed_at": Job.finished_at,
    }[sort_by]
    nullable = sort_by in {"chunk_count", "processing_duration_ms", "processed_at"}
    return Key(sort_by, column, descending, nullable), Key("batch_key", Job.job_id)


def _duration_ms(job: Job) -> int | None:
    if job.started_at is None or job.finished_at is None:
        return None
    return round((job.finished_at - job.started_at).total_seconds() * 1000)
