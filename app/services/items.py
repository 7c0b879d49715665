"""Items of a dataset and their chunks: what files became, and what is pushed through the API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Integer,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.errors import InvalidInputError, NotFoundError
from app.ids import chunk_id, content_hash
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import check_search, check_title
from app.services.item_tags import hashed_tags, tags_of
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import columns_of, view
from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.queries.listing import PATTERN, Listing, mentioning, pattern
from app.storage.postgres.queries.owned import expect_readable, missing, owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, Dataset, Item

_BETWEEN_CHUNKS = "\n\n"
_ITEMS_PER_TRANSACTION = 500
_ROWS_PER_INSERT = 1000
_MOST_ITEMS_PER_PAGE = 100


@dataclass(frozen=True, slots=True)
class ItemView:
    """An item without its text; `summary` lists carry no chunks either."""

    item_id: int
    dataset_id: int
    title: str
    chunk_count: int
    file_id: int | None
    collection_transform_id: int | None
    media_type: str | None
    language: str | None
    page_count: int | None
    metadata: dict[str, Any]
    tags: list[str]
    warnings: list[str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A passage: `text` is the item's text from `start_char` to `end_char`."""

    chunk_id: UUID
    item_id: int
    position: int
    content: str
    start_char: int
    end_char: int
    token_count: int
    page: int | None
    heading_path: list[str]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ItemWithChunks(ItemView):
    """An item and its first chunks."""

    chunks: list[ChunkView]


@dataclass(frozen=True, slots=True)
class ItemText:
    """A whole document for the reader; the spans of its chunks index into `text`."""

    item: ItemView
    text: str


@dataclass(frozen=True, slots=True)
class ChunkInItem:
    """A passage, the document that it comes from, and the text around it."""

    chunk: ChunkView
    item: ItemView
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PushedChunk:
    """A passage as a client pushes it."""

    content: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushedItem:
    """A document as a client pushes it; the title names it within the dataset."""

    title: str
    chunks: Sequence[PushedChunk]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pushed:
    """How many items were written; all of them, or the request was refused."""

    completed: int
    failed: int
    item_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """Verbs on items. `count_tokens` is the counter that chunking uses."""

    database: Database
    outbox: Outbox
    count_tokens: Callable[[Sequence[str]], Sequence[int]]

    def list(
        self,
        principal: Principal,
        dataset_id: int,
        *,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
    ) -> Page[ItemView]:
        """Items in the order they were made; `search` looks in the title."""
        check_window(limit, offset, most=_MOST_ITEMS_PER_PAGE)
        term = check_search(search)
        values = {"dataset_id": dataset_id, PATTERN: pattern(term or "")}
        with self.database.reading() as connection:
            expect_readable(connection, Dataset, dataset_id, principal.owner_id)
            rows, total, following = _listing(searched=bool(term)).page(
                connection, values, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def get(self, principal: Principal, item_id: int) -> ItemView:
        """One item; raises NotFoundError."""
        with self.database.reading() as connection:
            return ItemView(*_readable_item(connection, _ITEM, principal, item_id))

    def item_text(self, principal: Principal, item_id: int) -> ItemText:
        """The whole text of an item; raises NotFoundError."""
        with self.database.reading() as connection:
            *item, text = _readable_item(connection, _ITEM_WITH_TEXT, principal, item_id)
        return ItemText(ItemView(*item), text)

    def chunks(
        self,
        principal: Principal,
        item_id: int,
        *,
        dataset_id: int | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[ChunkView]:
        """An item's chunks in reading order; raises NotFoundError, also for an item of another dataset."""
        check_window(limit, offset)
        with self.database.reading() as connection:
            (its_dataset,) = _readable_item(connection, _DATASET_OF_ITEM, principal, item_id)
            if dataset_id not in {None, its_dataset}:
                raise NotFoundError(f"no item {item_id} in dataset {dataset_id}")
            rows, total, following = _CHUNKS.page(
                connection, {"item_id": item_id}, limit=limit, offset=offset, cursor=cursor
            )
        return Page(rows, total, limit, offset, following)

    def with_chunks(
        self, principal: Principal, items: Sequence[ItemView], *, most: int
    ) -> Sequence[ItemWithChunks]:
        """The same items, each with at most so many of its chunks in reading order."""
        found: dict[int, list[ChunkView]] = {item.item_id: [] for item in items}
        values = {"item_ids": list(found), "most": most, "owner_id": principal.owner_id}
        with self.database.reading() as connection:
            for row in connection.execute(_FIRST_CHUNKS, values):
                found[row.item_id].append(ChunkView(*row))
        return [view(ItemWithChunks, item, chunks=found[item.item_id]) for item in items]

    def chunk(self, principal: Principal, key: UUID, *, context_chars: int = 600) -> ChunkInItem:
        """One passage with its document and the characters around it; raises NotFoundError."""
        values = {"key": key, "owner_id": principal.owner_id, "context": context_chars}
        with self.database.reading() as connection:
            row = connection.execute(_CHUNK_IN_ITEM, values).one_or_none()
        if row is None:
            raise NotFoundError(f"no chunk {key}")
        chunk, item, (before, after) = row[:_WIDTH], row[_WIDTH:-2], row[-2:]
        return ChunkInItem(ChunkView(*chunk), ItemView(*item), before, after)

    def push(self, principal: Principal, dataset_id: int, items: Iterable[PushedItem]) -> Pushed:
        """Write items by title, replacing those that are there, and plan their embedding.

        Raises NotFoundError and InvalidInputError, which names the first bad item; groups of 500 items
        before it may have been written then.
        """
        checked = [_checked(item, number) for number, item in enumerate(items)]
        ids: list[int] = []
        for start in range(0, len(checked), _ITEMS_PER_TRANSACTION):
            with self.database.transaction() as session:
                owned(session, Dataset, dataset_id, principal.owner_id, lock=True)
                part = checked[start : start + _ITEMS_PER_TRANSACTION]
                ids.extend([self._write(session, principal, dataset_id, item) for item in part])
                Removal(session, self.outbox, principal.owner_id).replan([dataset_id])
        return Pushed(completed=len(ids), failed=0, item_ids=tuple(ids))

    def delete(self, principal: Principal, item_id: int, *, dataset_id: int | None = None) -> None:
        """Delete an item with its chunks; planning then deletes its vectors.

        Raises NotFoundError, also for an item of another dataset.
        """
        with self.database.transaction() as session:
            row = owned(session, Item, item_id, principal.owner_id, lock=True)
            if dataset_id not in {None, row.dataset_id}:
                raise NotFoundError(f"no item {item_id} in dataset {dataset_id}")
            session.delete(row)
            Removal(session, self.outbox, principal.owner_id).replan([row.dataset_id])

    def _write(self, session: Session, principal: Principal, dataset_id: int, item: PushedItem) -> int:
        row = session.scalars(
            select(Item).where(
                Item.dataset_id == dataset_id, Item.title == item.title, Item.file_id.is_(None)
            )
        ).one_or_none()
        if row is None:
            row = Item(owner_id=principal.owner_id, dataset_id=dataset_id, title=item.title)
            session.add(row)
        texts = [chunk.content for chunk in item.chunks]
        known = (row.content_hash, _metadata(session, row)) if row.item_id else None
        row.text = _BETWEEN_CHUNKS.join(texts)
        row.tags = tags_of(item.metadata)
        row.content_hash = content_hash(*texts, *hashed_tags(row.tags))
        row.chunk_count = len(texts)
        row.metadata_ = dict(item.metadata)
        session.flush()
        if known != (row.content_hash, [dict(chunk.metadata) for chunk in item.chunks]):
            self._write_chunks(session, row.item_id, item.chunks)
        return row.item_id

    def _write_chunks(self, session: Session, item_id: int, chunks: Sequence[PushedChunk]) -> None:
        session.execute(delete(ChunkRow).where(ChunkRow.item_id == item_id))
        rows = self._chunk_rows(item_id, chunks)
        for start in range(0, len(rows), _ROWS_PER_INSERT):
            session.execute(insert(ChunkRow), rows[start : start + _ROWS_PER_INSERT])

    def _chunk_rows(self, item_id: int, chunks: Sequence[PushedChunk]) -> Sequence[dict[str, Any]]:
        rows, start = [], 0
        tokens = self.count_tokens([chunk.content for chunk in chunks])
        for position, chunk in enumerate(chunks):
            end = start + len(chunk.content)
            rows.append(
                {
                    "chunk_id": chunk_id(item_id, start, end, chunk.content),
                    "item_id": item_id,
                    "position": position,
                    "text": chunk.content,
                    "start_char": start,
                    "end_char": end,
                    "token_count": tokens[position],
                    "metadata_": dict(chunk.metadata),
                }
            )
            start = end + len(_BETWEEN_CHUNKS)
        return rows


def _metadata(session: Session, row: Item) -> list[dict[str, Any]]:
    """Of the item's chunks, in order; the rest of a pushed chunk is in the content hash."""
    chunks = select(ChunkRow.metadata_).where(ChunkRow.item_id == row.item_id).order_by(ChunkRow.position)
    return list(session.scalars(chunks))


def _checked(item: PushedItem, number: int) -> PushedItem:
    place = f"items.{number}"
    title = check_title(item.title, field=f"{place}.title")
    if not item.chunks:
        raise InvalidInputError(f"{place}.chunks must not be empty", field=f"{place}.chunks")
    for position, chunk in enumerate(item.chunks):
        if not chunk.content.strip() or "\x00" in chunk.content:
            name = f"{place}.chunks.{position}.content"
            raise InvalidInputError(f"{name} must hold text and no NUL characters", field=name)
    return PushedItem(title, item.chunks, item.metadata)


_ITEM_COLUMNS = columns_of(ItemView, Item, metadata=Item.metadata_)
_CHUNK_COLUMNS = columns_of(ChunkView, ChunkRow, content=ChunkRow.text, metadata=ChunkRow.metadata_)
_WIDTH = len(_CHUNK_COLUMNS)
_MINE_OR_PUBLIC = or_(Item.owner_id == bindparam("owner_id"), Dataset.is_public)


def _of_item(*columns: Any) -> Select[Any]:
    statement = select(*columns).join(Dataset, Dataset.dataset_id == Item.dataset_id)
    return statement.where(Item.item_id == bindparam("key"), _MINE_OR_PUBLIC)


def _of_chunk(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .join(Item, Item.item_id == ChunkRow.item_id)
        .join(Dataset, Dataset.dataset_id == Item.dataset_id)
        .where(_MINE_OR_PUBLIC)
    )


_ITEM, _ITEM_WITH_TEXT = _of_item(*_ITEM_COLUMNS), _of_item(*_ITEM_COLUMNS, Item.text)
_DATASET_OF_ITEM = _of_item(Item.dataset_id)
_CHUNKS = Listing(
    ChunkView,
    select(*_CHUNK_COLUMNS).where(ChunkRow.item_id == bindparam("item_id")),
    (Key("position", ChunkRow.position),),
)
_FIRST_CHUNKS = (
    _of_chunk(*_CHUNK_COLUMNS)
    .where(
        ChunkRow.item_id == func.any(bindparam("item_ids", type_=ARRAY(BigInteger))),
        ChunkRow.position < bindparam("most"),
    )
    .order_by(ChunkRow.item_id, ChunkRow.position)
)
_CONTEXT: BindParameter[int] = bindparam("context", type_=Integer)
_BEGIN = func.greatest(ChunkRow.start_char - _CONTEXT, 0)
_CHUNK_IN_ITEM = _of_chunk(
    *_CHUNK_COLUMNS,
    *_ITEM_COLUMNS,
    func.substr(Item.text, _BEGIN + 1, ChunkRow.start_char - _BEGIN).label("before"),
    func.substr(Item.text, ChunkRow.end_char + 1, _CONTEXT).label("after"),
).where(ChunkRow.chunk_id == bindparam("key"))


@cache
def _listing(*, searched: bool) -> Listing[ItemView]:
    statement = select(*_ITEM_COLUMNS).where(Item.dataset_id == bindparam("dataset_id"))
    if searched:
        statement = statement.where(mentioning(Item.title))
    return Listing(ItemView, statement, (Key("item_id", Item.item_id),))


def _readable_item(
    connection: Connection, statement: Select[Any], principal: Principal, item_id: int
) -> Row[Any]:
    row = connection.execute(statement, {"key": item_id, "owner_id": principal.owner_id}).one_or_none()
    if row is None:
        raise missing(Item, item_id)
    return row
