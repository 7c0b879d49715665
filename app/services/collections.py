"""Collections: a user's sets of uploaded files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam, cast, func, or_, select

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
        values = {"owner_id": principal.owner_id, PATTERN: pattern(term or "")}
        with self.database.reading() as connection:
            rows, total, following = _listing(searched=bool(term)).page(
                connection, values, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def public(self, *, limit: int = 50, offset: int = 0, cursor: str | None = None) -> Page[CollectionView]:
        """Everybody's public collections, newest first."""
        check_window(limit, offset)
        with self.database.reading() as connection:
            rows, total, following = _PUBLIC.page(connection, {}, limit=limit, offset=offset, cursor=cursor)
        return Page(rows, total, limit, offset, following)

    def get(self, principal: Principal, collection_id: int) -> CollectionView:
        """One collection of the owner's, or a public one; raises NotFoundError."""
        values = {"key": collection_id, "owner_id": principal.owner_id}
        with self.database.reading() as connection:
            row = connection.execute(_ONE, values).one_or_none()
        if row is None:
            raise missing(Collection, collection_id)
        return CollectionView(*row)

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
            return view(
                CollectionView, row, owner_display_name=principal.display_name, file_count=0, size_bytes=0
            )

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


def _with_counts() -> Select[Any]:
    files = File.collection_id == Collection.collection_id
    number = select(func.count()).select_from(File).where(files).scalar_subquery()
    size = select(func.coalesce(func.sum(File.size_bytes), 0)).where(files).scalar_subquery()
    columns = columns_of(
        CollectionView,
        Collection,
        owner_display_name=Owner.display_name,
        file_count=number,
        size_bytes=cast(size, BigInteger),
    )
    return select(*columns).join(Owner, Owner.owner_id == Collection.owner_id)


_ONE = _with_counts().where(
    Collection.collection_id == bindparam("key"),
    or_(Collection.owner_id == bindparam("owner_id"), Collection.is_public),
)
_PUBLIC = Listing(
    CollectionView,
    _with_counts().where(Collection.is_public),
    (
        Key("created_at", Collection.created_at, descending=True),
        Key("collection_id", Collection.collection_id, descending=True),
    ),
)


@cache
def _listing(*, searched: bool) -> Listing[CollectionView]:
    statement = _with_counts().where(Collection.owner_id == bindparam("owner_id"))
    if searched:
        tags = func.array_to_string(Collection.tags, " ")
        statement = statement.where(mentioning(Collection.title, Collection.details, tags))
    order = (
        Key("updated_at", Collection.updated_at, descending=True),
        Key("collection_id", Collection.collection_id, descending=True),
    )
    return Listing(CollectionView, statement, order)
