"""Embedded datasets: a dataset through an embedder, kept as one vector index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, select
from sqlalchemy.orm import InstrumentedAttribute

from app.errors import NotFoundError
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.batch_views import Batch, BatchFilter, BatchSortBy, batch_of, batch_order, has_status
from app.services.described import check_search, check_title
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import view
from app.storage.filters import Equal
from app.storage.postgres.queries.embedding_progress import EmbeddingProgress, embedding_progress
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pages import mentions
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    Collection,
    CollectionTransform,
    Dataset,
    EmbeddedDataset,
    EmbedderRow,
    Job,
)
from app.storage.qdrant import VectorStore

T = TypeVar("T")

_MOST_POINTS = 1000
MOST_BATCHES = 5000
_NEWEST_FIRST = (Key("embedded_dataset_id", EmbeddedDataset.embedded_dataset_id, descending=True),)


@dataclass(frozen=True, slots=True)
class EmbeddedDatasetView:
    """An embedded dataset with the names of what it joins.

    A standalone one joins nothing: `dataset_transform_id` and `source_dataset_id` are 0, and so is
    `embedder_id` where it names no embedder; the names of these are null. The collection is the first whose
    files fill the source dataset, null where none do.
    """

    embedded_dataset_id: int
    title: str
    owner_id: str
    is_standalone: bool
    dataset_transform_id: int
    source_dataset_id: int
    source_dataset_title: str | None
    collection_id: int | None
    collection_title: str | None
    embedder_id: int
    embedder_name: str | None
    collection_name: str
    dimensions: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PointView:
    """A stored vector without its numbers; `id` is the chunk's."""

    id: UUID
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PointPage:
    """Points in the order of ids; pass `next_offset` to get the next page."""

    points: tuple[PointView, ...]
    total_count: int
    next_offset: str | None


@dataclass(frozen=True, slots=True)
class EmbeddedDatasets:
    """Verbs on embedded datasets."""

    database: Database
    outbox: Outbox
    vectors: VectorStore

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
        dataset_id: int | None = None,
    ) -> Page[EmbeddedDatasetView]:
        """The owner's embedded datasets, newest first; of one dataset where given."""
        check_window(limit, offset)
        statement = _joined().where(EmbeddedDataset.owner_id == principal.owner_id)
        if dataset_id is not None:
            statement = statement.where(EmbeddedDataset.source_dataset_id == dataset_id)
        if term := check_search(search):
            statement = statement.where(mentions(term, EmbeddedDataset.title, Dataset.title))
        with self.database.transaction() as session:
            if dataset_id is not None:
                owned(session, Dataset, dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, _NEWEST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(_view(*row) for row in rows), total, limit, offset, following)

    def get(self, principal: Principal, embedded_dataset_id: int) -> EmbeddedDatasetView:
        """One embedded dataset; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
            which = EmbeddedDataset.embedded_dataset_id == embedded_dataset_id
            return _view(*session.execute(_joined().where(which)).one())

    def update(self, principal: Principal, embedded_dataset_id: int, *, title: str) -> EmbeddedDatasetView:
        """Rename it; raises NotFoundError, InvalidInputError."""
        with self.database.transaction() as session:
            row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id, lock=True)
            row.title = check_title(title)
        return self.get(principal, embedded_dataset_id)

    def delete(self, principal: Principal, embedded_dataset_id: int) -> None:
        """Delete it with its vectors and maps; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id, lock=True)
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.embedded_datasets(EmbeddedDataset.embedded_dataset_id == embedded_dataset_id)
            session.delete(row)

    def stats(self, principal: Principal, embedded_dataset_id: int) -> EmbeddingProgress:
        """How far it is; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
            which = EmbeddedDataset.embedded_dataset_id == embedded_dataset_id
            (done,) = embedding_progress(session, which)
        return self._with_pushed(row, done)

    def stats_of(
        self, principal: Principal, embedded_dataset_ids: Sequence[int]
    ) -> tuple[EmbeddingProgress, ...]:
        """How far several are, by id; raises NotFoundError when one of them is not the owner's."""
        with self.database.transaction() as session:
            which = EmbeddedDataset.embedded_dataset_id.in_(embedded_dataset_ids)
            mine = select(EmbeddedDataset).where(which, EmbeddedDataset.owner_id == principal.owner_id)
            rows = {row.embedded_dataset_id: row for row in session.scalars(mine)}
            if lacking := set(embedded_dataset_ids) - rows.keys():
                raise NotFoundError(f"no embedded dataset {min(lacking)}", field="embedded_dataset_ids")
            found = embedding_progress(session, which)
        return tuple(self._with_pushed(rows[done.embedded_dataset_id], done) for done in found)

    def batches(
        self,
        principal: Principal,
        embedded_dataset_id: int,
        *,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
        status: BatchFilter | None = None,
        sort_by: BatchSortBy = "created_at",
        descending: bool = True,
    ) -> Page[Batch]:
        """Its embedding jobs, newest first unless told otherwise; raises NotFoundError."""
        check_window(limit, offset, most=MOST_BATCHES)
        statement = select(Job).where(
            Job.kind == "embed_items",
            Job.scope_kind == "embedded_dataset",
            Job.scope_id == embedded_dataset_id,
        )
        if status is not None:
            statement = statement.where(has_status(status))
        order = batch_order(sort_by, descending=descending)
        with self.database.transaction() as session:
            owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(batch_of(job) for (job,) in rows), total, limit, offset, following)

    def points(
        self, principal: Principal, embedded_dataset_id: int, *, limit: int = 10, cursor: UUID | None = None
    ) -> PointPage:
        """Stored points; none before the first was embedded. Raises NotFoundError, UnavailableError."""
        check_window(limit, most=_MOST_POINTS)
        index = self._index(principal, embedded_dataset_id)
        mine = Equal("owner_id", principal.owner_id)
        try:
            total = self.vectors.count(index, mine)
            found = self.vectors.scroll(
                index, limit=limit, cursor=None if cursor is None else str(cursor), filters=mine
            )
        except NotFoundError:  # the index is made with its first vectors
            return PointPage((), 0, None)
        points = tuple(PointView(point.id, point.payload) for point in found.points)
        return PointPage(points, total, found.cursor)

    def vector(self, principal: Principal, embedded_dataset_id: int, point_id: UUID) -> tuple[float, ...]:
        """The numbers of one point, of unit length; raises NotFoundError."""
        index = self._index(principal, embedded_dataset_id)
        try:
            return tuple(map(float, self.vectors.get_vector(index, point_id)))
        except NotFoundError:
            raise NotFoundError(f"no point {point_id}") from None

    def _with_pushed(self, row: EmbeddedDataset, done: EmbeddingProgress) -> EmbeddingProgress:
        """Of a standalone one only its vector index knows how much there is."""
        if not row.is_standalone:
            return done
        try:
            points = self.vectors.count(row.collection_name)
        except NotFoundError:  # the index is made with its first vectors
            points = 0
        return replace(done, chunks_total=points, chunks_embedded=points)

    def _index(self, principal: Principal, embedded_dataset_id: int) -> str:
        with self.database.transaction() as session:
            return owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id).collection_name


def _joined() -> Select[tuple[EmbeddedDataset, str, str, int, str]]:
    return (
        select(
            EmbeddedDataset,
            Dataset.title,
            EmbedderRow.name,
            _first_filled_from(Collection.collection_id),
            _first_filled_from(Collection.title),
        )
        .outerjoin(Dataset, Dataset.dataset_id == EmbeddedDataset.source_dataset_id)
        .outerjoin(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
    )


def _first_filled_from(column: InstrumentedAttribute[T]) -> ScalarSelect[T]:
    return (
        select(column)
        .join(CollectionTransform, CollectionTransform.collection_id == Collection.collection_id)
        .where(CollectionTransform.dataset_id == EmbeddedDataset.source_dataset_id)
        .order_by(CollectionTransform.collection_transform_id)
        .limit(1)
        .correlate(EmbeddedDataset)
        .scalar_subquery()
    )


def _view(
    row: EmbeddedDataset,
    dataset_title: str | None,
    embedder_name: str | None,
    collection_id: int | None,
    collection_title: str | None,
) -> EmbeddedDatasetView:
    return view(
        EmbeddedDatasetView,
        row,
        dataset_transform_id=row.dataset_transform_id or 0,
        source_dataset_id=row.source_dataset_id or 0,
        source_dataset_title=dataset_title,
        collection_id=collection_id,
        collection_title=collection_title,
        embedder_id=row.embedder_id or 0,
        embedder_name=embedder_name,
    )
