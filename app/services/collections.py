"""Collections: a user's sets of uploaded files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

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
from app.storage.postgres.tables import Collection, CollectionTransform, File, Owner


@dataclass(frozen=True, slots=True)
class CollectionView:
    """A collection as its readers see it."""

    collection_id: int
    title: str
    details: str | None
    owner_id: str
    owner_display_name: str
    tags: list[str]
    is_public: bool
    created_at: datetime
    updated_at: datetime
    file_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Collections:
    """Verbs on collections."""

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
    ) -> Page[CollectionView]:
        """The owner's collections, last changed first; `search` looks in title, details and tags."""
        check_window(limit, offset)
        term = check_search(search)
        statement = _with_counts().where(Collection.owner_id == principal.owner_id)
        if term:
            tags = func.array_to_string(Collection.tags, " ")
            statement = statement.where(mentions(term, Collection.title, Collection.details, tags))
        order = (
            Key("updated_at", Collection.updated_at, descending=True),
            Key("collection_id", Collection.collection_id, descending=True),
        )
        with self.database.transaction() as session:
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(_view(*row) for row in rows), total, limit, offset, following)

    def public(self, *, limit: int = 50, offset: int = 0) -> Page[CollectionView]:
        """Everybody's public collections, newest first."""
        check_window(limit, offset)
        statement = _with_counts().where(Collection.is_public)
        ordered = statement.order_by(Collection.created_at.desc(), Collection.collection_id.desc())
        with self.database.transaction() as session:
            rows, total = page(session, ordered, limit=limit, offset=offset)
            return Page(tuple(_view(*row) for row in rows), total, limit, offset)

    def get(self, principal: Principal, collection_id: int) -> CollectionView:
        """One collection of the owner's, or a public one; raises NotFoundError."""
        with self.database.transaction() as session:
            readable(session, Collection, collection_id, principal.owner_id)
            row = session.execute(_with_counts().where(Collection.collection_id == collection_id)).one()
            return _view(*row)

    def create(
        self,
        principal: Principal,
        *,
        title: str,
        details: str | None = None,
        tags: tuple[str, ...] = (),
        is_public: bool = False,
    ) -> CollectionView:
        """Make an empty collection; raises InvalidInputError."""
        row = Collection(
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

    def update(self, principal: Principal, collection_id: int, changes: DescribedChanges) -> CollectionView:
        """Change what `changes` names; raises NotFoundError, InvalidInputError."""
        values = checked(changes)
        with self.database.transaction() as session:
            row = owned(session, Collection, collection_id, principal.owner_id, lock=True)
            for name, value in values.items():
                setattr(row, name, value)
        return self.get(principal, collection_id)

    def delete(self, principal: Principal, collection_id: int) -> None:
        """Delete it with its files, transforms and the items made from them; raises NotFoundError."""
        with self.database.transaction() as session:
            # An upload holds this lock while it writes its row: its object is in the list below or not there.
            row = owned(session, Collection, collection_id, principal.owner_id, lock=True)
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.files(File.collection_id == collection_id)
            datasets = removal.hold_transforms(CollectionTransform.collection_id == collection_id)
            session.delete(row)
            session.flush()
            removal.replan(datasets)


def _with_counts() -> Select[tuple[Collection, str, int, Any]]:
    files = File.collection_id == Collection.collection_id
    number = select(func.count()).select_from(File).where(files).scalar_subquery()
    size = select(func.coalesce(func.sum(File.size_bytes), 0)).where(files).scalar_subquery()
    return select(Collection, Owner.display_name, number, size).join(
        Owner, Owner.owner_id == Collection.owner_id
    )


def _view(row: Collection, owner_display_name: str, file_count: int, size_bytes: Any) -> CollectionView:
    return view(
        CollectionView,
        row,
        owner_display_name=owner_display_name,
        tags=list(row.tags),
        file_count=file_count,
        size_bytes=int(size_bytes),
    )
