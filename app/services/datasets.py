"""Datasets: text produced from files, or pushed through the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select

from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import (
    DescribedChanges,
    check_details,
    check_search,
    check_tags,
    check_title,
    checked,
)
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import columns_of, view
from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.queries.listing import PATTERN, Listing, mentioning, pattern
from app.storage.postgres.queries.owned import missing, owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import CollectionTransform, Dataset, EmbeddedDataset, Item, Owner


@dataclass(frozen=True, slots=True)
class DatasetView:
    """A dataset as its readers see it."""

    dataset_id: int
    title: str
    details: str | None
    owner_id: str
    owner_display_name: str
    tags: list[str]
    is_public: bool
    created_at: datetime
    updated_at: datetime
    item_count: int
    total_chunks: int


@dataclass(frozen=True, slots=True)
class Datasets:
    """Verbs on datasets."""

    database: Database
    outbox: Outbox

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
    ) -> Page[DatasetView]:
        """The owner's datasets, last changed first; `search` looks in title, details and tags."""
        check_window(limit, offset)
        term = check_search(search)
        values = {"owner_id": principal.owner_id, PATTERN: pattern(term or "")}
        with self.database.reading() as connection:
            rows, total, following = _listing(searched=bool(term)).page(
                connection, values, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def public(self, *, limit: int = 50, offset: int = 0, cursor: str | None = None) -> Page[DatasetView]:
        """Everybody's public datasets, newest first."""
        check_window(limit, offset)
        with self.database.reading() as connection:
            rows, total, following = _PUBLIC.page(connection, {}, limit=limit, offset=offset, cursor=cursor)
        return Page(rows, total, limit, offset, following)

    def get(self, principal: Principal, dataset_id: int) -> DatasetView:
        """One dataset of the owner's, or a public one; raises NotFoundError."""
        values = {"key": dataset_id, "owner_id": principal.owner_id}
        with self.database.reading() as connection:
            row = connection.execute(_ONE, values).one_or_none()
        if row is None:
            raise missing(Dataset, dataset_id)
        return DatasetView(*row)

    def create(
        self,
        principal: Principal,
        *,
        title: str,
        details: str | None = None,
        tags: tuple[str, ...] = (),
        is_public: bool = False,
    ) -> DatasetView:
        """Make an empty dataset; raises InvalidInputError."""
        row = Dataset(
            owner_id=principal.owner_id,
            title=check_title(title),
            details=check_details(details),
            tags=check_tags(tags),
            is_public=is_public,
        )
        with self.database.transaction() as session:
            session.add(row)
            session.flush()
            session.refresh(row)
            return view(
                DatasetView, row, owner_display_name=principal.display_name, item_count=0, total_chunks=0
            )

    def update(self, principal: Principal, dataset_id: int, changes: DescribedChanges) -> DatasetView:
        """Change what `changes` names; raises NotFoundError, InvalidInputError."""
        values = checked(changes)
        with self.database.transaction() as session:
            row = owned(session, Dataset, dataset_id, principal.owner_id, lock=True)
            for name, value in values.items():
                setattr(row, name, value)
        return self.get(principal, dataset_id)

    def delete(self, principal: Principal, dataset_id: int) -> None:
        """Delete it with items, chunks, transforms, vector indexes and maps; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, Dataset, dataset_id, principal.owner_id, lock=True)
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.embedded_datasets(EmbeddedDataset.source_dataset_id == dataset_id)
            removal.hold_transforms(CollectionTransform.dataset_id == dataset_id)
            session.delete(row)


def _with_counts() -> Select[Any]:
    items = Item.dataset_id == Dataset.dataset_id
    number = select(func.count()).select_from(Item).where(items).scalar_subquery()
    chunks = select(func.coalesce(func.sum(Item.chunk_count), 0)).where(items).scalar_subquery()
    columns = columns_of(
        DatasetView,
        Dataset,
        owner_display_name=Owner.display_name,
        item_count=number,
        total_chunks=chunks,
    )
    return select(*columns).join(Owner, Owner.owner_id == Dataset.owner_id)


_ONE = _with_counts().where(
    Dataset.dataset_id == bindparam("key"),
    or_(Dataset.owner_id == bindparam("owner_id"), Dataset.is_public),
)
_PUBLIC = Listing(
    DatasetView,
    _with_counts().where(Dataset.is_public),
    (
        Key("created_at", Dataset.created_at, descending=True),
        Key("dataset_id", Dataset.dataset_id, descending=True),
    ),
)


@cache
def _listing(*, searched: bool) -> Listing[DatasetView]:
    statement = _with_counts().where(Dataset.owner_id == bindparam("owner_id"))
    if searched:
        tags = func.array_to_string(Dataset.tags, " ")
        statement = statement.where(mentioning(Dataset.title, Dataset.details, tags))
    order = (
        Key("updated_at", Dataset.updated_at, descending=True),
        Key("dataset_id", Dataset.dataset_id, descending=True),
    )
    return Listing(DatasetView, statement, order)
