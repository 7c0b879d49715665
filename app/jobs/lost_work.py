"""Rows that wait for a job that is over, and plans that were given up: their transforms are planned again."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Exists, Select, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from app.jobs.contracts import Contract, PlanCollectionTransform, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.jobs.reconciliations import write_down
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

_TEN_MINUTES = timedelta(minutes=10)  # such a plan has seen the row, or cannot help it
_HOUR = timedelta(hours=1)  # whatever ended a plan may be over; if not, its letters are few enough to be read
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
        logger.warning("rows waited for jobs that are over, or plans were given up: %s", counts)
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
        .where(CollectionTransform.is_enabled, _to_plan(PlanCollectionTransform, transform_id, lost))
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
        .where(DatasetTransform.is_enabled, _to_plan(PlanDatasetTransform, transform_id, lost))
        .order_by(transform_id)
        .limit(_MOST_PLANS)
    )


def _over(job_id: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return ~exists().where(Job.job_id == job_id, Job.state.in_(ACTIVE_STATES))


def _to_plan(
    plan: type[Contract], transform_id: InstrumentedAttribute[int], lost: Exists
) -> ColumnElement[bool]:
    """A plan that was given up leaves what it had not reached without a row that could be found lost."""
    dead, newer = aliased(Job), aliased(Job)
    given_up = exists().where(
        _is_plan(dead, plan, transform_id),
        dead.state == "dead",
        ~exists().where(_is_plan(newer, plan, transform_id), newer.created_at > dead.created_at),
    )
    return or_(
        and_(lost, ~_planned(plan, transform_id, _TEN_MINUTES)),
        and_(given_up, ~_planned(plan, transform_id, _HOUR)),
    )


def _planned(plan: type[Contract], transform_id: InstrumentedAttribute[int], lately: timedelta) -> Exists:
    """A plan is on its way, or was there a moment ago."""
    return exists().where(
        _is_plan(Job, plan, transform_id),
        or_(Job.state.in_(ACTIVE_STATES), Job.created_at > func.now() - lately),
    )


def _is_plan(
    job: type[Job], plan: type[Contract], transform_id: InstrumentedAttribute[int]
) -> ColumnElement[bool]:
    return and_(job.scope_kind == plan.scope_kind, job.scope_id == transform_id, job.kind == plan.kind)
