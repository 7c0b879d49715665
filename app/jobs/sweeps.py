"""Sweeps: the reconciler looks after jobs, this after what lost its job or its row.

Rows that wait for a job that is over are looked for at every pass. Stored objects and vector indexes that no
row names are looked for once an hour in the fleet, outside of any transaction: the row of the last sweep in
`reconciliations` is the clock and the claim. Everything is only recorded as jobs, which check once more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

from sqlalchemy import ColumnElement, Exists, Select, exists, func, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.jobs.contracts import (
    Contract,
    DeleteObjects,
    DropVectorIndex,
    PlanCollectionTransform,
    PlanDatasetTransform,
)
from app.jobs.outbox import Outbox
from app.jobs.reconcile import write_down
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    ItemEmbedding,
    Job,
    Reconciliation,
    Visualization,
)
from app.storage.qdrant import VectorStore
from app.storage.s3 import BlobStore

logger = logging.getLogger(__name__)

_ADVISORY_LOCK = 7_201_650_045
_OBJECT_PREFIXES = ("files/", "visualizations/")
_INDEX_PREFIX = "embedded-dataset-"
_INTERVAL = timedelta(hours=1)
_PLANNED_LATELY = timedelta(minutes=10)  # such a plan has seen the row, or cannot help it
_MOST_PLANS = 100
_MOST_OBJECTS = 10_000
_MOST_INDEXES = 1000
_PAGE = 1000
_KEYS_PER_JOB = 200
_UNOWNED = "unowned_indexes"  # marks the row of a sweep


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass recorded jobs for, or would: ids of transforms, keys of objects, names of indexes."""

    collection_transforms: Sequence[int] = ()
    dataset_transforms: Sequence[int] = ()
    objects: Sequence[str] = ()
    indexes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Claim:
    reconciliation_id: int | None  # None: a dry run
    seen_before: frozenset[str]  # the indexes that the last sweep found unowned


class Sweeps:
    """Passes over what has no job or no row.

    An object younger than `min_age` is left alone: an upload stores it before it writes the row.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        blobs: BlobStore,
        vectors: VectorStore,
        *,
        min_age: timedelta = timedelta(hours=1),
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._blobs = blobs
        self._vectors = vectors
        self._min_age = min_age

    def run(self, *, dry_run: bool = False) -> Swept:
        """One pass; a dry one looks at everything and changes nothing. Raises UnavailableError."""
        collections, datasets = self._plan_lost_work(dry_run=dry_run)
        with self._database.transaction() as session:
            claim = _look_back(session) if dry_run else _claim(session)
        if claim is None:
            return Swept(collections, datasets)
        objects = list(islice(self._unowned_objects(), _MOST_OBJECTS))
        unowned = self._unowned_indexes()
        # Twice, an hour apart: nothing is lost by patience, whatever made an index only a moment ago.
        indexes = [name for name in unowned if name in claim.seen_before]
        if claim.reconciliation_id is not None:
            self._record(claim.reconciliation_id, objects, indexes, unowned)
        return Swept(collections, datasets, objects, indexes)

    def _plan_lost_work(self, *, dry_run: bool) -> tuple[list[int], list[int]]:
        with self._database.transaction() as session:
            if not _alone(session):
                return [], []
            collections = session.execute(_collections_with_lost_work()).all()
            datasets = session.execute(_datasets_with_lost_work()).all()
            plans: list[tuple[Contract, str]] = [
                *((PlanCollectionTransform(key), owner_id) for key, owner_id in collections),
                *((PlanDatasetTransform(key), owner_id) for key, owner_id in datasets),
            ]
            if plans and not dry_run:
                # In the outbox's order, see there.
                for plan, owner_id in sorted(plans, key=lambda each: (each[0].kind, each[0].unique_key)):
                    self._outbox.record(session, plan, owner_id=owner_id)
                counts = {"collection_plans": len(collections), "dataset_plans": len(datasets)}
                write_down(session, counts)
                logger.warning("rows waited for jobs that are over: %s", counts)
        return [row[0] for row in collections], [row[0] for row in datasets]

    def _unowned_objects(self) -> Iterator[str]:
        before = datetime.now(UTC) - self._min_age
        found = chain.from_iterable(self._blobs.list(prefix) for prefix in _OBJECT_PREFIXES)
        old = (blob.key for blob in found if blob.modified_at < before)
        while page := list(islice(old, _PAGE)):
            with self._database.transaction() as session:
                files = select(File.object_key).where(File.object_key.in_(page))
                maps = select(Visualization.points_key).where(Visualization.points_key.in_(page))
                named = {*session.scalars(files), *session.scalars(maps)}
            yield from (key for key in page if key not in named)

    def _unowned_indexes(self) -> list[str]:
        # In this order: the row of an index is there before the index is made.
        names = self._vectors.names(_INDEX_PREFIX)
        with self._database.transaction() as session:
            named = select(EmbeddedDataset.collection_name).where(EmbeddedDataset.collection_name.in_(names))
            owned = set(session.scalars(named))
        return [name for name in names if name not in owned][:_MOST_INDEXES]

    def _record(
        self, reconciliation_id: int, objects: Sequence[str], indexes: Sequence[str], unowned: Sequence[str]
    ) -> None:
        starts = range(0, len(objects), _KEYS_PER_JOB)
        jobs: list[Contract] = [
            *(DropVectorIndex(name) for name in indexes),
            *(DeleteObjects(tuple(objects[start : start + _KEYS_PER_JOB])) for start in starts),
        ]
        found = {"objects": len(objects), "indexes": len(indexes), _UNOWNED: list(unowned)}
        with self._database.transaction() as session:
            self._outbox.record_many(session, jobs, owner_id=None)
            session.execute(
                update(Reconciliation)
                .where(Reconciliation.reconciliation_id == reconciliation_id)
                .values(finished_at=func.now(), found=found)
            )
        if jobs:
            logger.warning("no row names %d stored objects and %d indexes", len(objects), len(indexes))


def _alone(session: Session) -> bool:
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}))


def _claim(session: Session) -> _Claim | None:
    """The sweep of this hour, unless somebody has it."""
    recent = exists().where(_is_sweep(), Reconciliation.started_at > func.now() - _INTERVAL)
    if not _alone(session) or session.scalar(select(recent)):
        return None
    before = _look_back(session)
    row = Reconciliation(started_at=func.now(), found={_UNOWNED: []})
    session.add(row)
    session.flush()
    return _Claim(row.reconciliation_id, before.seen_before)


def _look_back(session: Session) -> _Claim:
    last = select(Reconciliation.found).where(_is_sweep()).order_by(Reconciliation.started_at.desc()).limit(1)
    found: dict[str, Any] = session.scalar(last) or {}
    return _Claim(None, frozenset(found.get(_UNOWNED, ())))


def _is_sweep() -> ColumnElement[bool]:
    return Reconciliation.found.op("?", is_comparison=True)(_UNOWNED)


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
    # What a person cancelled is not lost: it waits for the next plan that somebody asks for.
    return ~exists().where(Job.job_id == job_id, Job.state.in_((*ACTIVE_STATES, "cancelled")))


def _planned(plan: type[Contract], transform_id: InstrumentedAttribute[int]) -> Exists:
    """A plan is on its way, or was there a moment ago."""
    return exists().where(
        Job.scope_kind == plan.scope_kind,
        Job.scope_id == transform_id,
        Job.kind == plan.kind,
        or_(Job.state.in_(ACTIVE_STATES), Job.created_at > func.now() - _PLANNED_LATELY),
    )
