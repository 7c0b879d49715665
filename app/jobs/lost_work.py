"""Rows that wait for a job that is over: their transforms are planned again."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import ColumnElement, Exists, Select, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.jobs.contracts import Contract, PlanCollectionTransform, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.jobs.reconcile import write_down
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    FileExtraction,
    ItemEmbedding,
    Job,
)

logger = logging.getLogger(__name__)

_PLANNED_LATELY = func.make_interval(0, 0, 0, 0, 0, 10)  # such a plan has seen the row, or cannot help it
_MOST_PLANS = 100


def plan_lost_work(session: Session, outbox: Outbox, *, dry_run: bool) -> tuple[list[int], list[int]]:
    """Record plans for up to 100 transforms of files and of items each; returns their ids."""
    collections = session.execute(_collections_with_lost_work()).all()
    datasets = session.execute(_datasets_with_lost_work()).all()
    plans: list[tuple[Contract, str]] = [
        *((PlanCollectionTransform(key), owner_id) for key, owner_id in collections),
        *((PlanDatasetTransform(key), owner_id) for key, owner_id in datasets),
    ]
    if plans and not dry_run:
        # In the outbox's order, see there.
        for plan, owner_id in sorted(plans, key=lambda each: (each[0].kind, each[0].unique_key)):
            outbox.record(session, plan, owner_id=owner_id)
        counts = {"collection_plans": len(collections), "dataset_plans": len(datasets)}
        write_down(session, counts)
        logger.warning("rows waited for jobs that are over: %s", counts)
    return [row[0] for row in collections], [row[0] for row in datasets]


def _collections_with_lost_work() -> Select[tuple[int, str]]:
    transform_id = CollectionTransform.collection_transform_id
    lost = exists().where(
        FileExtraction.collection_transform_id == transform_id,
        FileExtraction.state == "pending",
        _over(FileExtraction.job_id),
    )
    return (
        select(transform_id, CollectionTransform.owner_id)
        .where(CollectionTransform.is_enabled, lost, ~_planned(PlanCollectionTransform, transform_id))
        .order_by(transform_id)
        .limit(_MOST_PLANS)
    )


def _datasets_with_lost_work() -> Select[tuple[int, str]]:
    transform_id = DatasetTransform.dataset_transform_id
    lost = exists().where(
        EmbeddedDataset.dataset_transform_id == transform_id,
        ItemEmbedding.embedded_dataset_id == EmbeddedDataset.embedded_dataset_id,
        ItemEmbedding.state == "pending",
        _over(ItemEmbedding.job_id),
    )
    return (
        select(transform_id, DatasetTransform.owner_id)
        .where(DatasetTransform.is_enabled, lost, ~_planned(PlanDatasetTransform, transform_id))
        .order_by(transform_id)
        .limit(_MOST_PLANS)
    )


def _over(job_id: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return ~exists().where(Job.job_id == job_id, Job.state.in_(ACTIVE_STATES))


def _planned(plan: type[Contract], transform_id: InstrumentedAttribute[int]) -> Exists:
    """A plan is on its way, or was there a moment ago."""
    return exists().where(
        Job.scope_kind == plan.scope_kind,
        Job.scope_id == transform_id,
        Job.kind == plan.kind,
        or_(Job.state.in_(ACTIVE_STATES), Job.created_at > func.now() - _PLANNED_LATELY),
    )
