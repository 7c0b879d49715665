"""Counts behind the overview of collections: one grouped query each, for any number of collections."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from app.storage.postgres.tables import CollectionTransform, File, FileExtraction, Item, ItemEmbedding


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


def outcome_counts(ids: list[int], since: datetime) -> Select[Any]:
    """By collection and state: files whose present version ended so; `recent` and `first` since `since`."""
    recent = FileExtraction.processed_at > since
    return (
        select(
            File.collection_id,
            FileExtraction.state,
            func.count(File.file_id.distinct()).label("files"),
            func.count(File.file_id.distinct()).filter(recent).label("recent"),
            func.min(FileExtraction.processed_at).filter(recent).label("first"),
        )
        .join(FileExtraction, FileExtraction.file_id == File.file_id)
        .where(File.collection_id.in_(ids), FileExtraction.file_version == File.version)
        .group_by(File.collection_id, FileExtraction.state)
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


def vector_counts(ids: list[int], since: datetime) -> Select[Any]:
    """By collection, embedded dataset and state: passages of items in their present content."""
    recent = ItemEmbedding.processed_at > since
    return (
        select(
            CollectionTransform.collection_id,
            ItemEmbedding.embedded_dataset_id,
            ItemEmbedding.state,
            func.sum(ItemEmbedding.chunk_count).label("passages"),
            func.coalesce(func.sum(ItemEmbedding.chunk_count).filter(recent), 0).label("recent"),
            func.min(ItemEmbedding.processed_at).filter(recent).label("first"),
        )
        .join(Item, Item.item_id == ItemEmbedding.item_id)
        .join(
            CollectionTransform,
            CollectionTransform.collection_transform_id == Item.collection_transform_id,
        )
        .where(CollectionTransform.collection_id.in_(ids), ItemEmbedding.content_hash == Item.content_hash)
        .group_by(CollectionTransform.collection_id, ItemEmbedding.embedded_dataset_id, ItemEmbedding.state)
    )
