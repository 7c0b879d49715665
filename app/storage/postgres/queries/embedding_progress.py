"""How far embedded datasets are, derived from the rows of items, their embeddings and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.engine import RowMapping
from sqlalchemy.orm import Session

from app.errors import JobCancelledError
from app.storage.postgres.queries.pace import Progress, pace, progress, rate_of
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    EmbeddedDataset,
    EmbedderRow,
    Item,
    ItemEmbedding,
    Job,
)


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """One embedded dataset: what its dataset holds, and how much of that has vectors."""

    embedded_dataset_id: int
    title: str
    embedder_id: int  # 0, and no name: what was pushed names no embedder
    embedder_name: str | None
    items_total: int
    items_embedded: int
    items_failed: int
    chunks_total: int
    chunks_embedded: int
    chunks_processing: int
    chunks_failed: int
    successful_batches: int
    failed_batches: int
    active_batches: int
    first_processing_at: datetime | None
    last_run_at: datetime | None
    avg_processing_duration_ms: float | None
    # Passages over the model's limit, over all finished batches: embedded in parts, or cut.
    passages_split: int
    passages_truncated: int
    progress: Progress  # in passages


_COUNTS = (
    "items_total",
    "items_embedded",
    "items_failed",
    "chunks_total",
    "chunks_embedded",
    "chunks_processing",
    "chunks_failed",
)


def embedding_progress(session: Session, which: ColumnElement[bool]) -> tuple[EmbeddingProgress, ...]:
    """Of the embedded datasets that match, by id."""
    targets = session.execute(
        select(EmbeddedDataset, EmbedderRow.name)
        .outerjoin(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
        .where(which)
        .order_by(EmbeddedDataset.embedded_dataset_id)
    ).all()
    return tuple(_progress(session, target, embedder_name) for target, embedder_name in targets)


def _progress(session: Session, target: EmbeddedDataset, embedder_name: str | None) -> EmbeddingProgress:
    work = session.execute(_work(target)).mappings().one()
    batches = session.execute(_batches(target.embedded_dataset_id)).one()
    return EmbeddingProgress(
        embedded_dataset_id=target.embedded_dataset_id,
        title=target.title,
        embedder_id=target.embedder_id or 0,
        embedder_name=embedder_name,
        **{name: int(work[name]) for name in _COUNTS},
        successful_batches=batches.good,
        failed_batches=batches.bad,
        active_batches=batches.active,
        first_processing_at=batches.first_started,
        last_run_at=batches.last_finished,
        avg_processing_duration_ms=None if batches.duration is None else float(batches.duration) * 1000,
        passages_split=batches.split,
        passages_truncated=batches.truncated,
        progress=_pace(work),
    )


def _pace(work: RowMapping) -> Progress:
    return progress(
        "passages",
        total=int(work["chunks_total"]),
        done=int(work["chunks_embedded"]),
        failed=int(work["chunks_failed"]),
        cancelled=int(work["chunks_cancelled"]),
        running=int(work["chunks_running"]),
        rate=rate_of(work["recent"], work["seconds"]),
    )


def _work(target: EmbeddedDataset) -> Select[Any]:
    """An embedding counts only for the item's present content: an edited item is to do again."""
    current = (
        (ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id)
        & (ItemEmbedding.item_id == Item.item_id)
        & (ItemEmbedding.content_hash == Item.content_hash)
    )
    state, cause = ItemEmbedding.state, ItemEmbedding.error_code
    ended = and_(state != "pending", cause.is_distinct_from(JobCancelledError.code))

    def chunks(where: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(Item.chunk_count).filter(where), 0)

    return (
        select(
            func.count().label("items_total"),
            func.count().filter(state == "succeeded").label("items_embedded"),
            func.count().filter(state == "failed").label("items_failed"),
            func.coalesce(func.sum(Item.chunk_count), 0).label("chunks_total"),
            chunks(state == "succeeded").label("chunks_embedded"),
            chunks(state == "pending").label("chunks_processing"),
            chunks(state == "failed").label("chunks_failed"),
            chunks(and_(state == "failed", cause == JobCancelledError.code)).label("chunks_cancelled"),
            chunks(and_(state == "pending", Job.state == "running")).label("chunks_running"),
            *pace(
                func.sum(Item.chunk_count), ended, ended=ItemEmbedding.processed_at, started=Job.started_at
            ),
        )
        .select_from(Item)
        .outerjoin(ItemEmbedding, current)
        .outerjoin(Job, Job.job_id == ItemEmbedding.job_id)
        .where(Item.dataset_id == target.source_dataset_id)
    )


def _batches(embedded_dataset_id: int) -> Select[Any]:
    return select(
        func.count().filter(Job.state == "succeeded").label("good"),
        func.count().filter(Job.state == "dead").label("bad"),
        func.count().filter(Job.state.in_(ACTIVE_STATES)).label("active"),
        func.min(Job.started_at).label("first_started"),
        func.max(Job.finished_at).label("last_finished"),
        func.avg(func.extract("epoch", Job.finished_at - Job.started_at))
        .filter(Job.state == "succeeded")
        .label("duration"),
        _outcome_sum("split"),
        _outcome_sum("truncated"),
    ).where(
        Job.kind == "embed_items",
        Job.scope_kind == "embedded_dataset",
        Job.scope_id == embedded_dataset_id,
    )


def _outcome_sum(name: str) -> ColumnElement[int]:
    return func.coalesce(func.sum(Job.outcome[name].as_integer()), 0).label(name)
