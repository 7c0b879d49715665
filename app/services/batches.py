"""Batches: the embedding jobs of a dataset transform, one by one and counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.jobs.contracts import EmbedItems, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.batch_views import Batch, batch_of
from app.services.dataset_transforms import refuse_disabled
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DatasetTransform, EmbeddedDataset, ItemEmbedding, Job


@dataclass(frozen=True, slots=True)
class BatchStats:
    """The batches of one transform by state, and what the finished ones embedded."""

    dataset_transform_id: int
    total_batches: int
    pending_batches: int
    processing_batches: int
    retrying_batches: int
    successful_batches: int
    failed_batches: int
    cancelled_batches: int
    total_items: int
    total_chunks_embedded: int
    avg_processing_duration_ms: float | None
    first_processing_at: datetime | None
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True)
class Batches:
    """Verbs on the batches of a dataset transform."""

    database: Database
    outbox: Outbox

    def get(self, principal: Principal, dataset_transform_id: int, batch_key: UUID) -> Batch:
        """One batch; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            return batch_of(_job(session, dataset_transform_id, batch_key))

    def stats(self, principal: Principal, dataset_transform_id: int) -> BatchStats:
        """All its batches, counted; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            row = session.execute(_counts(dataset_transform_id)).one()._asdict()
        duration = row.pop("duration")
        return BatchStats(
            dataset_transform_id=dataset_transform_id,
            avg_processing_duration_ms=None if duration is None else float(duration) * 1000,
            **row,
        )

    def retry(self, principal: Principal, dataset_transform_id: int, batch_key: UUID) -> int:
        """Make what failed with this batch new again and plan it; returns how many items that are.

        Raises NotFoundError, and InvalidInputError when the transform is disabled.
        """
        with self.database.transaction() as session:
            row = owned(session, DatasetTransform, dataset_transform_id, principal.owner_id, lock=True)
            refuse_disabled(row)
            _job(session, dataset_transform_id, batch_key)
            again = session.scalars(
                update(ItemEmbedding)
                .where(ItemEmbedding.job_id == batch_key, ItemEmbedding.state == "failed")
                # They wait for no job that there is: should the plan be lost, the sweep finds them.
                .values(state="pending", job_id=uuid4(), error_code=None, error_message=None)
                .returning(ItemEmbedding.item_id)
            ).all()
            plan = PlanDatasetTransform(dataset_transform_id)
            self.outbox.record(session, plan, owner_id=principal.owner_id)
        return len(again)


def _job(session: Session, dataset_transform_id: int, batch_key: UUID) -> Job:
    row = session.scalar(select(Job).where(Job.job_id == batch_key, _of(dataset_transform_id)))
    if row is None:
        raise NotFoundError(f"no batch {batch_key} of dataset transform {dataset_transform_id}")
    return row


def _of(dataset_transform_id: int) -> ColumnElement[bool]:
    embedded = select(EmbeddedDataset.embedded_dataset_id).where(
        EmbeddedDataset.dataset_transform_id == dataset_transform_id
    )
    return (
        (Job.kind == EmbedItems.kind)
        & (Job.scope_kind == EmbedItems.scope_kind)
        & (Job.scope_id.in_(embedded))
    )


def _counts(dataset_transform_id: int) -> Select[Any]:
    def in_state(state: str) -> ColumnElement[int]:
        return func.count().filter(Job.state == state)

    good = Job.state == "succeeded"
    chunks = func.sum(Job.outcome["chunks"].as_integer()).filter(good)
    seconds = func.extract("epoch", Job.finished_at - Job.started_at)
    return select(
        func.count().label("total_batches"),
        in_state("pending").label("pending_batches"),
        in_state("running").label("processing_batches"),
        in_state("retrying").label("retrying_batches"),
        in_state("succeeded").label("successful_batches"),
        in_state("dead").label("failed_batches"),
        in_state("cancelled").label("cancelled_batches"),
        func.coalesce(func.sum(func.jsonb_array_length(Job.arguments["item_ids"])), 0).label("total_items"),
        func.coalesce(chunks, 0).label("total_chunks_embedded"),
        func.min(Job.started_at).label("first_processing_at"),
        func.max(Job.finished_at).label("last_run_at"),
        func.avg(seconds).filter(good).label("duration"),
    ).where(_of(dataset_transform_id))
