"""Visualizations: the maps that were made, their topics and points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO
from uuid import UUID

from sqlalchemy import Select, select

from app.errors import ConflictError, NotFoundError
from app.jobs.outbox import Outbox
from app.pipeline.projection.arrow import Points
from app.security.principal import Principal
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pace import seconds_left
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    EmbeddedDataset,
    Visualization,
    VisualizationCluster,
    VisualizationTransform,
)
from app.storage.s3 import BlobStore

MOST_POINTS_PER_PAGE = 100_000
UNDER_WAY = ("pending", "processing")
_NEWEST_FIRST = (Key("visualization_id", Visualization.visualization_id, descending=True),)


@dataclass(frozen=True, slots=True)
class VisualizationView:
    """A run and what it made.

    `progress` runs from 0 to 1; `eta_seconds` is what is left at the pace so far, None where that cannot be
    told or nothing is being made.
    """

    visualization_id: int
    visualization_transform_id: int
    owner_id: str
    status: str
    stage: str | None
    progress: float
    eta_seconds: float | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    point_count: int | None
    cluster_count: int | None
    noise_count: int | None
    has_points: bool
    quality: dict[str, Any]
    stats_json: dict[str, Any]
    error_message: str | None


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A topic; (x, y) is where its label stands, `zoom` the level from which it shows."""

    cluster_id: int
    name: str
    keywords: list[str]
    size: int
    x: float
    y: float
    zoom: int
    name_source: str
    exemplar_chunk_ids: list[UUID]


@dataclass(frozen=True, slots=True)
class MapSource(VisualizationView):
    """A run and what its map was drawn from."""

    transform_title: str
    embedded_dataset_id: int
    embedded_dataset_title: str
    source_dataset_id: int


@dataclass(frozen=True, slots=True)
class PointsFile:
    """The map's points as one Arrow file; close `stream`. `etag` changes when the content does."""

    stream: BinaryIO
    size_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Visualizations:
    """Verbs on visualizations. `read_points` opens the content of a map's file."""

    database: Database
    outbox: Outbox
    blobs: BlobStore
    read_points: Callable[[bytes], Points]

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 50,
        offset: int = 0,
        cursor: str | None = None,
        visualization_transform_id: int | None = None,
        embedded_dataset_id: int | None = None,
    ) -> Page[VisualizationView]:
        """The owner's maps, newest first; of one transform or embedded dataset where given."""
        check_window(limit, offset)
        statement = select(Visualization).where(Visualization.owner_id == principal.owner_id)
        with self.database.transaction() as session:
            if visualization_transform_id is not None:
                owned(session, VisualizationTransform, visualization_transform_id, principal.owner_id)
                statement = statement.where(
                    Visualization.visualization_transform_id == visualization_transform_id
                )
            if embedded_dataset_id is not None:
                owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
                statement = statement.where(
                    Visualization.visualization_transform_id.in_(_transforms_of(embedded_dataset_id))
                )
            rows, total, following = keyed_page(
                session, statement, _NEWEST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            views = tuple(visualization_view(row) for (row,) in rows)
            return Page(views, total, limit, offset, following)

    def recent(self, principal: Principal, *, limit: int = 5) -> tuple[MapSource, ...]:
        """The newest finished maps and what they were drawn from."""
        check_window(limit)
        statement = (
            _with_source()
            .where(Visualization.owner_id == principal.owner_id, Visualization.status == "completed")
            .order_by(Visualization.completed_at.desc(), Visualization.visualization_id.desc())
            .limit(limit)
        )
        with self.database.transaction() as session:
            return tuple(_source(row) for row in session.execute(statement))

    def get(self, principal: Principal, visualization_id: int) -> MapSource:
        """One map and what it was drawn from; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, Visualization, visualization_id, principal.owner_id)
            which = Visualization.visualization_id == visualization_id
            return _source(session.execute(_with_source().where(which)).one())

    def clusters(self, principal: Principal, visualization_id: int) -> tuple[ClusterView, ...]:
        """The topics, largest first; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, Visualization, visualization_id, principal.owner_id)
            rows = session.scalars(
                select(VisualizationCluster)
                .where(VisualizationCluster.visualization_id == visualization_id)
                .order_by(VisualizationCluster.size.desc(), VisualizationCluster.cluster_id)
            )
            return tuple(view(ClusterView, row) for row in rows)

    def points_file(self, principal: Principal, visualization_id: int) -> PointsFile:
        """The Arrow file of the points; raises NotFoundError, ConflictError while there is none."""
        key = self._points_key(principal, visualization_id)
        return PointsFile(self.blobs.open(key), self.blobs.stat(key).size_bytes, key.rsplit("/", 1)[-1])

    def points(
        self, principal: Principal, visualization_id: int, *, limit: int = 1000, offset: int = 0
    ) -> Page[dict[str, Any]]:
        """Points as values, in the order of the file; raises as `points_file`."""
        check_window(limit, offset, most=MOST_POINTS_PER_PAGE)
        content = self.blobs.get_bytes(self._points_key(principal, visualization_id))
        points = self.read_points(content)
        return Page(tuple(points.rows(offset, limit)), len(points), limit, offset)

    def all_points(
        self, principal: Principal, visualization_id: int, *, batch: int
    ) -> Iterator[Sequence[dict[str, Any]]]:
        """All points as values, `batch` at a time, from one look at the file; raises as `points_file`."""
        points = self.read_points(self.blobs.get_bytes(self._points_key(principal, visualization_id)))
        return (points.rows(offset, batch) for offset in range(0, len(points), batch))

    def delete(self, principal: Principal, visualization_id: int) -> None:
        """Delete one map; raises NotFoundError, ConflictError while it is being built."""
        with self.database.transaction() as session:
            row = owned(session, Visualization, visualization_id, principal.owner_id, lock=True)
            if row.status == "processing":
                raise ConflictError("the map is being built: wait for it or delete its transform")
            Removal(session, self.outbox, principal.owner_id).objects([row.points_key])
            session.delete(row)

    def _points_key(self, principal: Principal, visualization_id: int) -> str:
        with self.database.transaction() as session:
            row = owned(session, Visualization, visualization_id, principal.owner_id)
            return _key(row)


def visualization_view(row: Visualization) -> VisualizationView:
    """A run as its owner sees it."""
    left = seconds_left(row.progress, row.started_at) if row.status == "processing" else None
    return view(VisualizationView, row, eta_seconds=left, has_points=row.points_key is not None)


def _key(row: Visualization) -> str:
    if row.points_key is not None:
        return row.points_key
    if row.status == "failed":
        raise NotFoundError(f"visualization {row.visualization_id} failed: {row.error_message}")
    raise ConflictError(f"visualization {row.visualization_id} is not ready yet ({row.status})")


def _transforms_of(embedded_dataset_id: int) -> Select[tuple[int]]:
    return select(VisualizationTransform.visualization_transform_id).where(
        VisualizationTransform.embedded_dataset_id == embedded_dataset_id
    )


def _with_source() -> Select[tuple[Visualization, str, EmbeddedDataset]]:
    return (
        select(Visualization, VisualizationTransform.title, EmbeddedDataset)
        .join(
            VisualizationTransform,
            VisualizationTransform.visualization_transform_id == Visualization.visualization_transform_id,
        )
        .join(
            EmbeddedDataset,
            EmbeddedDataset.embedded_dataset_id == VisualizationTransform.embedded_dataset_id,
        )
    )


def _source(row: Any) -> MapSource:
    return view(
        MapSource,
        visualization_view(row.Visualization),
        transform_title=row.title,
        embedded_dataset_id=row.EmbeddedDataset.embedded_dataset_id,
        embedded_dataset_title=row.EmbeddedDataset.title,
        source_dataset_id=row.EmbeddedDataset.source_dataset_id or 0,
    )
