"""Counts behind the overview of collections: one grouped query each, for any number of collections."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, and_, false, func, or_, select

from app.errors import JobCancelledError
from app.storage.postgres.queries.file_states import current_extraction
from app.storage.postgres.queries.pace import pace
from app.storage.postgres.tables import (
    CollectionTransform,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
    Job,
)


def file_counts(ids: list[int]) -> Select[Any]:
    """By collection: files, size_bytes, changed_at."""
    return (
        select(
            File.collection_id,
            func.count().label("files"),
            func.sum(File.size_bytes).label("size_bytes"),
            func.max(File.updated_at).label("changed_at"),
        )
        .where(File.collection_id.in_(ids))
        .group_by(File.collection_id)
    )


def outcome_counts(ids: list[int]) -> Select[Any]:
    """By collection: files that all its transforms have read, failed, cancelled, being read; and their pace.

    A file that a transform cannot read is `failed` whatever the others do with it; `to_read` are those that
    at least one of them has still to read. Collections without transforms have no row.
    """
    files, columns = func.count(), _outcomes(ids).subquery().c
    done = and_(columns.is_read, ~columns.is_failed, ~columns.is_to_read)
    return select(
        columns.collection_id,
        files.filter(done).label("done"),
        files.filter(columns.is_failed).label("failed"),
        files.filter(columns.is_failed, ~columns.is_broken).label("cancelled"),
        files.filter(columns.is_running, ~columns.is_failed).label("running"),
        files.filter(columns.is_to_read).label("to_read"),
        *pace(files, or_(done, columns.is_broken), ended=columns.ended_at, started=columns.started_at),
    ).group_by(columns.collection_id)


def _outcomes(ids: list[int]) -> Select[Any]:
    """By file: what the transforms of its collection made of its version, as they are configured now."""
    state = func.coalesce(FileExtraction.state, "pending")
    is_cancelled = FileExtraction.error_code.is_not_distinct_from(JobCancelledError.code)
    is_open, is_running = state == "pending", func.coalesce(Job.state == "running", false())
    is_moving = func.coalesce(Job.state.in_(("running", "retrying")), false())
    return (
        select(
            File.collection_id,
            func.bool_or(state == "succeeded").label("is_read"),
            func.bool_or(state == "failed").label("is_failed"),
            func.bool_or(and_(state == "failed", ~is_cancelled)).label("is_broken"),
            func.bool_or(and_(is_open, is_running)).label("is_running"),
            func.bool_or(and_(is_open, or_(CollectionTransform.is_enabled, is_moving))).label("is_to_read"),
            func.max(FileExtraction.processed_at).label("ended_at"),
            func.min(Job.started_at).label("started_at"),
        )
        .join(CollectionTransform, CollectionTransform.collection_id == File.collection_id)
        .outerjoin(FileExtraction, current_extraction())
        .outerjoin(Job, Job.job_id == FileExtraction.job_id)
        .where(File.collection_id.in_(ids))
        .group_by(File.file_id)
    )


def item_counts(ids: list[int]) -> Select[Any]:
    """By collection and dataset: items and passages."""
    return (
        select(
            CollectionTransform.collection_id,
            Item.dataset_id,
            func.count().label("items"),
            func.sum(Item.chunk_count).label("passages"),
        )
        .join(Item, Item.collection_transform_id == CollectionTransform.collection_transform_id)
        .where(CollectionTransform.collection_id.in_(ids))
        .group_by(CollectionTransform.collection_id, Item.dataset_id)
    )


def vector_counts(ids: list[int]) -> Select[Any]:
    """By collection and embedded dataset: passages of items in their present content, and their pace."""
    state, passages = ItemEmbedding.state, func.sum(ItemEmbedding.chunk_count)
    is_cancelled = ItemEmbedding.error_code.is_not_distinct_from(JobCancelledError.code)
    return (
        select(
            CollectionTransform.collection_id,
            ItemEmbedding.embedded_dataset_id,
            passages.filter(state == "succeeded").label("done"),
            passages.filter(state == "failed").label("failed"),
            passages.filter(and_(state == "failed", is_cancelled)).label("cancelled"),
            passages.filter(and_(state == "pending", Job.state == "running")).label("running"),
            *pace(
                passages,
                and_(state != "pending", ~is_cancelled),
                ended=ItemEmbedding.processed_at,
                started=Job.started_at,
            ),
        )
        .join(Item, Item.item_id == ItemEmbedding.item_id)
        .join(
            CollectionTransform,
            CollectionTransform.collection_transform_id == Item.collection_transform_id,
        )
        .outerjoin(Job, Job.job_id == ItemEmbedding.job_id)
        .where(CollectionTransform.collection_id.in_(ids), ItemEmbedding.content_hash == Item.content_hash)
        .group_by(CollectionTransform.collection_id, ItemEmbedding.embedded_dataset_id)
    )
