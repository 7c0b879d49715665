"""What a given-up job means for the things it was meant to make: they show the cause to their owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.errors import ExplorerError
from app.events.ports import StatusPublisher
from app.services.status import Subject, tell
from app.storage.postgres.tables import (
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    FileExtraction,
    ItemEmbedding,
    Job,
    Visualization,
    VisualizationTransform,
)

_MESSAGE_LENGTH = 2000


def mark_failed(session: Session, job_id: UUID, error: ExplorerError) -> list[Subject]:
    """Mark whatever waits for this job as failed; returns whom to tell once that is committed.

    Each kind of job has rows in one of the tables only.
    """
    message = error.message[:_MESSAGE_LENGTH]
    cause = {
        "state": "failed",
        "processed_at": func.now(),
        "error_code": error.code,
        "error_message": message,
    }
    collection_transforms = session.scalars(
        update(FileExtraction)
        .where(FileExtraction.job_id == job_id, FileExtraction.state == "pending")
        .values(cause)
        .returning(FileExtraction.collection_transform_id)
    ).all()
    embedded_datasets = session.scalars(
        update(ItemEmbedding)
        .where(
            tuple_(ItemEmbedding.embedded_dataset_id, ItemEmbedding.item_id).in_(_waiting_items(job_id)),
            ItemEmbedding.job_id == job_id,
            ItemEmbedding.state == "pending",
        )
        .values(cause)
        .returning(ItemEmbedding.embedded_dataset_id)
        .execution_options(synchronize_session=False)
    ).all()
    visualization_transforms = session.scalars(
        update(Visualization)
        .where(Visualization.job_id == job_id, Visualization.status.in_(("pending", "processing")))
        .values(status="failed", completed_at=func.now(), error_message=message)
        .returning(Visualization.visualization_transform_id)
    ).all()
    subjects = [
        *_collections(session, collection_transforms),
        *_datasets(session, embedded_datasets),
        *_visualizations(session, visualization_transforms),
    ]
    run_id = session.scalar(select(Job.planned_by).where(Job.job_id == job_id)) if subjects else None
    return [replace(subject, run_id=run_id) for subject in subjects]


def _waiting_items(job_id: UUID) -> Select[tuple[int, int]]:
    """Locked in the order of their keys, as whoever writes or deletes vectors locks them."""
    key = ItemEmbedding.embedded_dataset_id, ItemEmbedding.item_id
    mine = select(*key).where(ItemEmbedding.job_id == job_id, ItemEmbedding.state == "pending")
    return mine.order_by(*key).with_for_update()


def tell_failed(
    publisher: StatusPublisher, subjects: Iterable[Subject], job_id: UUID, error: ExplorerError
) -> None:
    """Say on the status stream what `mark_failed` wrote down."""
    for subject in subjects:
        tell(publisher, subject, "failed", job_id=job_id, error=error.message[:_MESSAGE_LENGTH])


def _collections(session: Session, ids: Iterable[int]) -> Iterable[Subject]:
    key = CollectionTransform.collection_transform_id
    rows = session.execute(
        select(key, CollectionTransform.collection_id, CollectionTransform.owner_id).where(key.in_(set(ids)))
    )
    return [Subject("collection", *row) for row in rows.tuples()]


def _datasets(session: Session, ids: Iterable[int]) -> Iterable[Subject]:
    transform = DatasetTransform
    rows = session.execute(
        select(transform.dataset_transform_id, transform.source_dataset_id, transform.owner_id)
        .join(EmbeddedDataset, EmbeddedDataset.dataset_transform_id == transform.dataset_transform_id)
        .where(EmbeddedDataset.embedded_dataset_id.in_(set(ids)))
    )
    return [Subject("dataset", *row) for row in rows.tuples()]


def _visualizations(session: Session, ids: Iterable[int]) -> Iterable[Subject]:
    key = VisualizationTransform.visualization_transform_id
    rows = session.execute(
        select(key, VisualizationTransform.embedded_dataset_id, VisualizationTransform.owner_id).where(
            key.in_(set(ids))
        )
    )
    return [Subject("visualization", *row) for row in rows.tuples()]
