"""How far a dataset transform is: the sum of its embedded datasets, and one word for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from app.storage.postgres.queries.embedding_progress import EmbeddingProgress
from app.storage.postgres.queries.pace import Progress, together


@dataclass(frozen=True, slots=True)
class DatasetTransformStats:
    """All embedders together.

    `status` is idle, pending, processing, completed, completed_with_errors or failed. What is dispatched
    went to workers, whatever came of it.
    """

    dataset_transform_id: int
    status: str
    embedder_count: int
    total_batches_processed: int
    total_batches_dispatched: int
    successful_batches: int
    failed_batches: int
    processing_batches: int
    total_chunks_to_process: int
    total_chunks_embedded: int
    total_chunks_processing: int
    total_chunks_failed: int
    total_chunks_dispatched: int
    first_processing_at: datetime | None
    last_run_at: datetime | None
    current_run_id: UUID | None  # the newest that has not ended
    current_run_started_at: datetime | None
    progress: Progress  # in passages, once for each embedder
    per_embedder: tuple[EmbeddingProgress, ...]


def dataset_transform_stats(
    dataset_transform_id: int, parts: Sequence[EmbeddingProgress], current: Row[Any] | None
) -> DatasetTransformStats:
    """Add up what the embedded datasets of one transform have done; `current` is a row of `current_run`."""
    starts = [part.first_processing_at for part in parts if part.first_processing_at]
    ends = [part.last_run_at for part in parts if part.last_run_at]
    total, embedded, failed = (
        sum(part.chunks_total for part in parts),
        sum(part.chunks_embedded for part in parts),
        sum(part.chunks_failed for part in parts),
    )
    active = sum(part.active_batches for part in parts)
    processing = sum(part.chunks_processing for part in parts)
    good, bad = sum(part.successful_batches for part in parts), sum(part.failed_batches for part in parts)
    return DatasetTransformStats(
        dataset_transform_id=dataset_transform_id,
        status=_status(total, embedded, failed, active),
        embedder_count=len(parts),
        total_batches_processed=good + bad,
        total_batches_dispatched=good + bad + active,
        successful_batches=good,
        failed_batches=bad,
        processing_batches=active,
        total_chunks_to_process=total,
        total_chunks_embedded=embedded,
        total_chunks_processing=processing,
        total_chunks_failed=failed,
        total_chunks_dispatched=embedded + processing + failed,
        first_processing_at=min(starts, default=None),
        last_run_at=max(ends, default=None),
        current_run_id=current.job_id if current else None,
        current_run_started_at=current.started_at if current else None,
        progress=together([part.progress for part in parts], "passages"),
        per_embedder=tuple(parts),
    )


def _status(total: int, embedded: int, failed: int, active: int) -> str:
    if active:
        return "processing"
    if not total:
        return "idle"
    if embedded + failed < total:
        return "pending"
    if not failed:
        return "completed"
    return "completed_with_errors" if embedded else "failed"
