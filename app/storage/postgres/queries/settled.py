"""What a plan leaves alone: what is done or given up in its present version, or an active job sees to."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_
from sqlalchemy.orm import InstrumentedAttribute

from app.storage.postgres.tables import (
    ACTIVE_STATES,
    CollectionTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
    Job,
)


def settled_file(transform: CollectionTransform) -> ColumnElement[bool]:
    """Whether the outer query's File needs no job of this transform."""
    return exists().where(
        extraction_of_file(transform),
        FileExtraction.file_version == File.version,
        FileExtraction.config_hash == transform.config_hash,
        _over_or_seen_to(FileExtraction.state, FileExtraction.job_id),
    )


def settled_item(target: EmbeddedDataset) -> ColumnElement[bool]:
    """Whether the outer query's Item needs no job of this embedded dataset."""
    return exists().where(
        embedding_of_item(target),
        ItemEmbedding.content_hash == Item.content_hash,
        _over_or_seen_to(ItemEmbedding.state, ItemEmbedding.job_id),
    )


def extraction_of_file(transform: CollectionTransform) -> ColumnElement[bool]:
    """The row of the outer query's File, whatever its version."""
    return and_(
        FileExtraction.collection_transform_id == transform.collection_transform_id,
        FileExtraction.file_id == File.file_id,
    )


def embedding_of_item(target: EmbeddedDataset) -> ColumnElement[bool]:
    """The row of the outer query's Item, whatever its content."""
    return and_(
        ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
        ItemEmbedding.item_id == Item.item_id,
    )


def _over_or_seen_to(
    state: InstrumentedAttribute[str], job_id: InstrumentedAttribute[UUID]
) -> ColumnElement[bool]:
    active = exists().where(Job.job_id == job_id, Job.state.in_(ACTIVE_STATES))
    return or_(state != "pending", active)
