"""Datasets: text produced from files, or pushed through the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select

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
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned, readable
from app.storage.postgres.queries.pages import mentions, page
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
        statement = _with_counts().where(Dataset.owner_id == principal.owner_id)
        if term:
            tags = func.array_to_string(Dataset.tags, " ")
            statement = statement.where(mentions(term, Dataset.title, Dataset.details, tags))
        order = (
            Key("updated_at", Dataset.updated_at, descending=True),
            Key("dataset_id", Dataset.dataset_id, descending=True),
        )
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(_view(*row) for row in rows), total, limit, offset, following)

    def public(self, *, limit: int = 50, offset: int = 0) -> Page[DatasetView]:
        """Everybody's public datasets, newest first."""
        check_window(limit, offset)
        statement = _with_counts().where(Dataset.is_public)
        ordered = statement.order_by(Dataset.created_at.desc(), Dataset.dataset_id.desc())
        with self.database.transaction() as session:
            rows, total = page(session, ordered, limit=limit, offset=offset)
            return Page(tuple(_view(*row) for row in rows), total, limit, offset)

    def get(self, principal: Principal, dataset_id: int) -> DatasetView:
        """One dataset of the owner's, or a public one; raises NotFoundError."""
        with self.database.transaction() as session:
            readable(session, Dataset, dataset_id, principal.owner_id)
            return _view(*session.execute(_with_counts().where(Dataset.dataset_id == dataset_id)).one())

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
            return _view(row, principal.display_name, 0, 0)

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


def _with_counts() -> Select[tuple[Dataset, str, int, int]]:
    items = Item.dataset_id == Dataset.dataset_id
    number = select(func.count()).select_from(Item).where(items).scalar_subquery()
    chunks = select(func.coalesce(func.sum(Item.chunk_count), 0)).where(items).scalar_subquery()
    return select(Dataset, Owner.display_name, number, chunks).join(Owner, Owner.owner_id == Dataset.owner_id)


def _view(row: Dataset, owner_display_name: str, item_count: int, total_chunks: int) -> DatasetView:
    return view(
        DatasetView,
        row,
        owner_display_name=owner_display_name,
        tags=list(row.tags),
        item_count=item_count,
        total_chunks=int(total_chunks),
    )
