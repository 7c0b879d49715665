"""What a person sees at a glance: each collection with how far its files, passages, vectors and maps are.

Reads only. Counts come from the rows themselves (file_extractions, item_embeddings, visualizations), so
they are right whatever the status stream lost; a fixed handful of queries serves any number of collections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.security.principal import Principal
from app.storage.postgres.queries import overview as counts_of
from app.storage.postgres.queries.pace import Progress, progress, rate_of, seconds_left
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    Collection,
    CollectionTransform,
    EmbeddedDataset,
    EmbedderRow,
    Job,
    Visualization,
    VisualizationTransform,
)


@dataclass(frozen=True, slots=True)
class EmbeddedOverview:
    """One embedded dataset as far as it holds passages of the collection."""

    embedded_dataset_id: int
    dataset_transform_id: int
    title: str
    embedder_name: str
    passages: Progress


@dataclass(frozen=True, slots=True)
class MapOverview:
    """The newest run of a visualization transform, and the newest one that can be looked at."""

    visualization_transform_id: int
    embedded_dataset_id: int
    title: str
    visualization_id: int | None
    status: str  # none, pending, processing, completed or failed
    stage: str | None
    progress: float  # 0 to 1
    error_message: str | None
    is_cancelled: bool  # failed because its owner said so
    started_at: datetime | None
    ready_id: int | None
    point_count: int | None
    cluster_count: int | None

    @property
    def is_building(self) -> bool:
        """Whether a run waits or works."""
        return self.status in {"pending", "processing"}

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the pace so far; None while nothing is done."""
        return seconds_left(self.progress, self.started_at) if self.status == "processing" else None


@dataclass(frozen=True, slots=True)
class Activity:
    """Active jobs behind a collection, by state, and why some are retried."""

    running: int = 0
    waiting: int = 0
    retrying: int = 0
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionOverview:
    """A collection and its pipeline."""

    collection_id: int
    title: str
    details: str | None
    changed_at: datetime
    size_bytes: int
    transform_ids: tuple[int, ...]
    dataset_ids: tuple[int, ...]
    files: Progress
    files_to_read: int  # by at least one transform; among them files that another one could not read
    items: int
    passages: int
    embedded: tuple[EmbeddedOverview, ...]
    maps: tuple[MapOverview, ...]
    activity: Activity

    @property
    def is_busy(self) -> bool:
        """Whether anything is still to be done by itself."""
        return bool(
            self.files_to_read
            or any(one.passages.left for one in self.embedded)
            or any(one.is_building for one in self.maps)
        )

    @property
    def problem_count(self) -> int:
        """Things that were given up and wait for a person; what was cancelled is none."""
        return (
            self.files.failed
            - self.files.cancelled
            + sum(one.passages.failed - one.passages.cancelled for one in self.embedded)
            + sum(one.status == "failed" and not one.is_cancelled for one in self.maps)
        )

    @property
    def cancelled_count(self) -> int:
        """Things that a person cancelled and did not ask for again."""
        return (
            self.files.cancelled
            + sum(one.passages.cancelled for one in self.embedded)
            + sum(one.is_cancelled for one in self.maps)
        )

    @property
    def trouble_count(self) -> int:
        """Both, which is what is worth a word."""
        return self.problem_count + self.cancelled_count

    @property
    def searchable_ids(self) -> list[int]:
        """Embedded datasets that hold some passages already."""
        return [one.embedded_dataset_id for one in self.embedded if one.passages.done]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Raw counts by collection id (or by the pair of collection and dataset, plain or embedded)."""

    files: dict[int, Any]
    outcomes: dict[int, Any]
    items: dict[tuple[int, int], Any]
    vectors: dict[tuple[int, int], Any]

    def read_into(self, collection_id: int, dataset_ids: Iterable[int]) -> tuple[int, int]:
        """Items and passages that these datasets hold of a collection."""
        rows = [self.items[pair] for one in dataset_ids if (pair := (collection_id, one)) in self.items]
        return sum(row.items for row in rows), sum(int(row.passages) for row in rows)


@dataclass(frozen=True, slots=True)
class Overview:
    """Verbs that read."""

    database: Database

    def collections(self, principal: Principal) -> list[CollectionOverview]:
        """All collections of the owner, the one changed last first."""
        with self.database.transaction() as session:
            rows = session.scalars(select(Collection).where(Collection.owner_id == principal.owner_id)).all()
            found = _overviews(session, rows)
        return sorted(found, key=lambda one: one.changed_at, reverse=True)

    def collection(self, principal: Principal, collection_id: int) -> CollectionOverview:
        """One collection; raises NotFoundError unless it is the owner's."""
        with self.database.transaction() as session:
            row = session.scalar(
                select(Collection).where(
                    Collection.collection_id == collection_id, Collection.owner_id == principal.owner_id
                )
            )
            if row is None:
                raise NotFoundError(f"no collection {collection_id}")
            return _overviews(session, [row])[0]

    def standalone_maps(self, principal: Principal) -> list[tuple[str, MapOverview]]:
        """Maps of what was pushed from outside, points or items, with their embedded dataset's title.

        The newest come first.
        """
        filled = CollectionTransform.dataset_id == EmbeddedDataset.source_dataset_id
        pushed_into = select(EmbeddedDataset.embedded_dataset_id, EmbeddedDataset.title).where(
            EmbeddedDataset.owner_id == principal.owner_id,
            ~exists().where(filled).correlate(EmbeddedDataset),
        )
        with self.database.transaction() as session:
            titles = {row.embedded_dataset_id: row.title for row in session.execute(pushed_into)}
            maps = _maps(session, list(titles)) if titles else {}
        found = [(titles[key], one) for key, several in maps.items() for one in several]
        return sorted(found, key=lambda each: each[1].visualization_transform_id, reverse=True)


def _overviews(session: Session, rows: Iterable[Collection]) -> list[CollectionOverview]:
    collections = {row.collection_id: row for row in rows}
    ids = list(collections)
    transforms = _transforms(session, ids)
    counts = _count(session, ids)
    datasets = {key: tuple(dict.fromkeys(t.dataset_id for t in found)) for key, found in transforms.items()}
    embedded = _embedded(session, {dataset for found in datasets.values() for dataset in found})
    maps = _maps(session, [one.embedded_dataset_id for found in embedded.values() for one in found])
    activity = _activity(session, collections.values())
    result = []
    for key, row in collections.items():
        items, passages = counts.read_into(key, datasets.get(key, ()))
        own = [one for dataset in datasets.get(key, ()) for one in embedded.get(dataset, ())]
        overviews = tuple(_embedded_overview(one, key, counts) for one in own)
        own_maps = tuple(m for one in own for m in maps.get(one.embedded_dataset_id, ()))
        files, outcome = counts.files.get(key), counts.outcomes.get(key)
        transform_ids = tuple(t.collection_transform_id for t in transforms.get(key, ()))
        scopes = [("collection_transform", one) for one in transform_ids]
        scopes += [("embedded_dataset", one.embedded_dataset_id) for one in own]
        scopes += [("visualization_transform", one.visualization_transform_id) for one in own_maps]
        result.append(
            CollectionOverview(
                collection_id=key,
                title=row.title,
                details=row.details,
                changed_at=max(filter(None, [row.updated_at, files and files.changed_at])),
                size_bytes=int(files.size_bytes) if files else 0,
                transform_ids=transform_ids,
                dataset_ids=datasets.get(key, ()),
                files=_progress("files", files.files if files else 0, outcome),
                files_to_read=outcome.to_read if outcome else 0,
                items=items,
                passages=passages,
                embedded=overviews,
                maps=own_maps,
                activity=_sum_activity(activity.get(scope) for scope in scopes),
            )
        )
    return result


def _transforms(session: Session, ids: list[int]) -> dict[int, list[CollectionTransform]]:
    grouped: dict[int, list[CollectionTransform]] = defaultdict(list)
    rows = session.scalars(
        select(CollectionTransform)
        .where(CollectionTransform.collection_id.in_(ids))
        .order_by(CollectionTransform.collection_transform_id)
    )
    for row in rows:
        grouped[row.collection_id].append(row)
    return grouped


def _count(session: Session, ids: list[int]) -> _Counts:
    vectors = session.execute(counts_of.vector_counts(ids))
    return _Counts(
        files={row.collection_id: row for row in session.execute(counts_of.file_counts(ids))},
        outcomes={row.collection_id: row for row in session.execute(counts_of.outcome_counts(ids))},
        items={
            (row.collection_id, row.dataset_id): row for row in session.execute(counts_of.item_counts(ids))
        },
        vectors={(row.collection_id, row.embedded_dataset_id): row for row in vectors},
    )


def _progress(unit: str, total: int, row: Any) -> Progress:
    """From a row of counts; None where nothing was begun."""
    if row is None:
        return progress(unit, total=total, done=0)
    return progress(
        unit,
        total=total,
        done=int(row.done or 0),
        failed=int(row.failed or 0),
        cancelled=int(row.cancelled or 0),
        running=int(row.running or 0),
        rate=rate_of(row.recent, row.seconds),
    )


def _embedded(session: Session, dataset_ids: set[int]) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = defaultdict(list)
    rows = session.execute(
        select(
            EmbeddedDataset.embedded_dataset_id,
            EmbeddedDataset.dataset_transform_id,
            EmbeddedDataset.source_dataset_id,
            EmbeddedDataset.title,
            EmbedderRow.name,
        )
        .join(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
        .where(EmbeddedDataset.source_dataset_id.in_(dataset_ids))
        .order_by(EmbeddedDataset.embedded_dataset_id)
    )
    for row in rows:
        grouped[row.source_dataset_id].append(row)
    return grouped


def _embedded_overview(row: Any, collection_id: int, counts: _Counts) -> EmbeddedOverview:
    _, passages = counts.read_into(collection_id, [row.source_dataset_id])
    return EmbeddedOverview(
        embedded_dataset_id=row.embedded_dataset_id,
        dataset_transform_id=row.dataset_transform_id,
        title=row.title,
        embedder_name=row.name,
        passages=_progress(
            "passages", passages, counts.vectors.get((collection_id, row.embedded_dataset_id))
        ),
    )


def _maps(session: Session, embedded_ids: list[int]) -> dict[int, list[MapOverview]]:
    transform = VisualizationTransform
    newest = (
        select(func.max(Visualization.visualization_id))
        .where(Visualization.visualization_transform_id == transform.visualization_transform_id)
        .correlate(transform)
    )
    ready = newest.where(Visualization.status == "completed").scalar_subquery().label("ready_id")
    rows = session.execute(
        select(transform, Visualization, ready, Job.state)
        .outerjoin(
            Visualization,
            and_(
                Visualization.visualization_transform_id == transform.visualization_transform_id,
                Visualization.visualization_id == newest.scalar_subquery(),
            ),
        )
        .outerjoin(Job, Job.job_id == Visualization.job_id)
        .where(transform.embedded_dataset_id.in_(embedded_ids))
        .order_by(transform.visualization_transform_id)
    )
    grouped: dict[int, list[MapOverview]] = defaultdict(list)
    for row in rows:
        grouped[row[0].embedded_dataset_id].append(_map_overview(*row))
    return grouped


def _map_overview(
    transform: VisualizationTransform, run: Visualization | None, ready: int | None, job_state: str | None
) -> MapOverview:
    return MapOverview(
        visualization_transform_id=transform.visualization_transform_id,
        embedded_dataset_id=transform.embedded_dataset_id,
        title=transform.title,
        visualization_id=run.visualization_id if run else None,
        status=run.status if run else "none",
        stage=run.stage if run else None,
        progress=run.progress if run else 0.0,
        error_message=run.error_message if run else None,
        is_cancelled=run is not None and run.status == "failed" and job_state == "cancelled",
        started_at=run.started_at if run else None,
        ready_id=ready,
        point_count=run.point_count if run else None,
        cluster_count=run.cluster_count if run else None,
    )


def _activity(session: Session, rows: Iterable[Collection]) -> dict[tuple[str, int], Activity]:
    owners = {row.owner_id for row in rows}
    found: dict[tuple[str, int], Activity] = {}
    counts = session.execute(
        select(Job.scope_kind, Job.scope_id, Job.state, func.count(), func.max(Job.error_message))
        .where(Job.owner_id.in_(owners), Job.state.in_(ACTIVE_STATES), Job.scope_id.is_not(None))
        .group_by(Job.scope_kind, Job.scope_id, Job.state)
    )
    for kind, scope_id, state, number, message in counts:
        one = Activity(
            running=number if state == "running" else 0,
            waiting=number if state == "pending" else 0,
            retrying=number if state == "retrying" else 0,
            cause=message if state == "retrying" else None,
        )
        found[(kind, scope_id)] = _sum_activity([found.get((kind, scope_id)), one])
    return found


def _sum_activity(parts: Iterable[Activity | None]) -> Activity:
    present = [part for part in parts if part]
    return Activity(
        running=sum(part.running for part in present),
        waiting=sum(part.waiting for part in present),
        retrying=sum(part.retrying for part in present),
        cause=next((part.cause for part in present if part.cause), None),
    )
