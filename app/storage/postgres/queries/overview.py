"""Counts behind the overview of collections: one grouped query each, for any number of collections."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, and_, func, select

from app.errors import JobCancelledError
from app.storage.postgres.queries.pace import pace
from app.storage.postgres.tables import CollectionTransform, File, FileExtraction, Item, ItemEmbedding, Job


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
    """By collection: files whose present version is done, failed, cancelled or being read; and their pace."""
    state, files = FileExtraction.state, func.count(File.file_id.distinct())
    is_cancelled = FileExtraction.error_code.is_not_distinct_from(JobCancelledError.code)
    return (
        select(
            File.collection_id,
            files.filter(state == "succeeded").label("done"),
            files.filter(state == "failed").label("failed"),
            files.filter(and_(state == "failed", is_cancelled)).label("cancelled"),
            files.filter(and_(state == "pending", Job.state == "running")).label("running"),
            *pace(
                files,
                and_(state != "pending", ~is_cancelled),
                ended=FileExtraction.processed_at,
                started=Job.started_at,
            ),
        )
        .join(FileExtraction, FileExtraction.file_id == File.file_id)
        .outerjoin(Job, Job.job_id == FileExtraction.job_id)
        .where(File.collection_id.in_(ids), FileExtraction.file_version == File.version)
        .group_by(File.collection_id)
    )


def item_counts(ids: list[int]) -> Select[Any]:
    """By collection: items and passages."""
    return (
        select(
            CollectionTransform.collection_id,
            func.count().label("items"),
            func.sum(Item.chunk_count).label("passages"),
        )
        .join(Item, Item.collection_transform_id == CollectionTransform.collection_transform_id)
        .where(CollectionTransform.collection_id.in_(ids))
        .group_by(CollectionTransform.collection_id)
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
