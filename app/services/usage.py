"""How much each owner has, counted from the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, cast, func, select, true
from sqlalchemy.orm import InstrumentedAttribute

from app.security.principal import Principal
from app.services.paging import Page, check_window
from app.storage.postgres.queries.pages import page
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
    """Verbs on usage."""

    database: Database

    def mine(self, principal: Principal) -> Usage:
        """What the principal has."""
        with self.database.transaction() as session:
            return _usage(session.execute(_counted().where(Owner.owner_id == principal.owner_id)).one())

    def all(self, *, limit: int = 20, offset: int = 0) -> Page[Usage]:
        """What every owner has, by id; for admins, which the route sees to."""
        check_window(limit, offset)
        with self.database.transaction() as session:
            rows, total = page(session, _counted().order_by(Owner.owner_id), limit=limit, offset=offset)
            return Page(tuple(_usage(row) for row in rows), total, limit, offset)


def _usage(row: Any) -> Usage:
    owner_id, display_name, *counts = row
    return Usage(owner_id, display_name, *map(int, counts))


def _counted() -> Select[Any]:
    vectors = (
        select(
            func.coalesce(func.sum(ItemEmbedding.chunk_count), 0).label("vectors"),
            func.coalesce(
                func.sum(cast(ItemEmbedding.chunk_count, BigInteger) * EmbeddedDataset.dimensions * 4), 0
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
