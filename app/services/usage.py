"""How much each owner has, counted from the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.errors import NotFoundError
from app.security.principal import Principal
from app.services.paging import Page, check_window
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    Collection,
    Dataset,
    EmbeddedDataset,
    File,
    Item,
    ItemEmbedding,
    Job,
    Owner,
    Visualization,
)
from app.storage.qdrant import VectorStore

_NUMBER_BYTES = 4  # of float32
_BY_OWNER = (Key("owner_id", Owner.owner_id),)
_Index = tuple[str, str, int]
_Owner = InstrumentedAttribute[str] | InstrumentedAttribute[str | None]


@dataclass(frozen=True, slots=True)
class Usage:
    """One owner's share: things, bytes of files, vectors (float32), and jobs that are not over."""

    owner_id: str
    owner_display_name: str
    collections: int
    files: int
    file_bytes: int
    datasets: int
    items: int
    chunks: int
    embedded_datasets: int
    vectors: int
    vector_bytes: int
    visualizations: int
    active_jobs: int


@dataclass(frozen=True, slots=True)
class Usages:
    """Verbs on usage. What was pushed only the vector indexes know: they are asked how much they hold."""

    database: Database
    vectors: VectorStore

    def mine(self, principal: Principal) -> Usage:
        """What the principal has; raises UnavailableError."""
        with self.database.transaction() as session:
            row = session.execute(_counted().where(Owner.owner_id == principal.owner_id)).one()
            pushed = _standalone(session, [principal.owner_id])
        return self._with_pushed(_usage(row), pushed)

    def all(self, *, limit: int = 20, offset: int = 0, cursor: str | None = None) -> Page[Usage]:
        """What every owner has, by id; for admins, which the route sees to. Raises UnavailableError."""
        check_window(limit, offset)
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, _counted(), _BY_OWNER, limit=limit, offset=offset, cursor=cursor
            )
            pushed = _standalone(session, [owner_id for owner_id, *_ in rows])
        found = tuple(self._with_pushed(_usage(row), pushed) for row in rows)
        return Page(found, total, limit, offset, following)

    def _with_pushed(self, counted: Usage, indexes: Sequence[_Index]) -> Usage:
        held = [
            (self._points(index), dimensions)
            for owner_id, index, dimensions in indexes
            if owner_id == counted.owner_id
        ]
        return replace(
            counted,
            vectors=counted.vectors + sum(points for points, _ in held),
            vector_bytes=counted.vector_bytes
            + sum(points * dimensions * _NUMBER_BYTES for points, dimensions in held),
        )

    def _points(self, index: str) -> int:
        try:
            return self.vectors.count(index)
        except NotFoundError:  # the index is made with its first vectors
            return 0


def _standalone(session: Session, owner_ids: Sequence[str]) -> list[_Index]:
    """Owner, vector index and dimensions of what these owners push into."""
    columns = (EmbeddedDataset.owner_id, EmbeddedDataset.collection_name, EmbeddedDataset.dimensions)
    pushed_into = EmbeddedDataset.dataset_transform_id.is_(None)
    found = session.execute(select(*columns).where(EmbeddedDataset.owner_id.in_(owner_ids), pushed_into))
    return [(owner_id, index, dimensions) for owner_id, index, dimensions in found]


def _usage(row: Any) -> Usage:
    owner_id, display_name, *counts = row
    return Usage(owner_id, display_name, *map(int, counts))


def _counted() -> Select[Any]:
    vectors = (
        select(
            func.coalesce(func.sum(ItemEmbedding.chunk_count), 0).label("vectors"),
            func.coalesce(
                func.sum(
                    cast(ItemEmbedding.chunk_count, BigInteger) * EmbeddedDataset.dimensions * _NUMBER_BYTES
                ),
                0,
            ).label("vector_bytes"),
        )
        .join(EmbeddedDataset, EmbeddedDataset.embedded_dataset_id == ItemEmbedding.embedded_dataset_id)
        .where(EmbeddedDataset.owner_id == Owner.owner_id, ItemEmbedding.state == "succeeded")
        .lateral()
    )
    number = func.count()
    # In the order of Usage's fields.
    return select(
        Owner.owner_id,
        Owner.display_name.label("owner_display_name"),
        _of(Collection.owner_id, number, "collections"),
        _of(File.owner_id, number, "files"),
        _of(File.owner_id, _sum(File.size_bytes), "file_bytes"),
        _of(Dataset.owner_id, number, "datasets"),
        _of(Item.owner_id, number, "items"),
        _of(Item.owner_id, _sum(Item.chunk_count), "chunks"),
        _of(EmbeddedDataset.owner_id, number, "embedded_datasets"),
        vectors.c.vectors,
        vectors.c.vector_bytes,
        _of(Visualization.owner_id, number, "visualizations"),
        _of(Job.owner_id, number, "active_jobs", Job.state.in_(ACTIVE_STATES)),
    ).join(vectors, true())


def _sum(column: InstrumentedAttribute[int]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _of(owner: _Owner, counted: ColumnElement[int], name: str, *which: ColumnElement[bool]) -> Any:
    rows = select(counted).select_from(owner.class_).where(owner == Owner.owner_id, *which)
    return rows.scalar_subquery().label(name)
