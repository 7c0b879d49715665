"""Items of a dataset and their chunks: what files became, and what is pushed through the API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, insert, or_, select
from sqlalchemy.orm import Session, undefer

from app.errors import InvalidInputError, NotFoundError
from app.ids import chunk_id, content_hash
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import check_search, check_title
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned, readable
from app.storage.postgres.queries.pages import page
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
        statement = select(Item).where(Item.dataset_id == dataset_id)
        if term:
            statement = statement.where(Item.title.icontains(term, autoescape=True))
        with self.database.transaction() as session:
            readable(session, Dataset, dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session,
                statement,
                (Key("item_id", Item.item_id),),
                limit=limit,
                offset=offset,
                cursor=cursor,
            )
            return Page(tuple(_item(row) for (row,) in rows), total, limit, offset, following)

    def get(self, principal: Principal, item_id: int) -> ItemView:
        """One item; raises NotFoundError."""
        with self.database.transaction() as session:
            return _item(_readable_item(session, principal, item_id))

    def item_text(self, principal: Principal, item_id: int) -> ItemText:
        """The whole text of an item; raises NotFoundError."""
        with self.database.transaction() as session:
            row = _readable_item(session, principal, item_id)
            return ItemText(_item(row), row.text)

    def chunks(
        self, principal: Principal, item_id: int, *, limit: int = 100, offset: int = 0
    ) -> Page[ChunkView]:
        """An item's chunks in reading order; raises NotFoundError."""
        check_window(limit, offset)
        statement = select(ChunkRow).where(ChunkRow.item_id == item_id).order_by(ChunkRow.position)
        with self.database.transaction() as session:
            _readable_item(session, principal, item_id)
            rows, total = page(session, statement, limit=limit, offset=offset)
            return Page(tuple(_chunk(row) for (row,) in rows), total, limit, offset)

    def chunk(self, principal: Principal, key: UUID, *, context_chars: int = 600) -> ChunkInItem:
        """One passage with its document and the characters around it; raises NotFoundError."""
        with self.database.transaction() as session:
            row = session.get(ChunkRow, key)
            if row is None:
                raise NotFoundError(f"no chunk {key}")
            item = _readable_item(session, principal, row.item_id, what=f"chunk {key}")
            text = item.text
            return ChunkInItem(
                _chunk(row),
                _item(item),
                before=text[max(0, row.start_char - context_chars) : row.start_char],
                after=text[row.end_char : row.end_char + context_chars],
            )

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

    def delete(self, principal: Principal, dataset_id: int, item_id: int) -> None:
        """Delete an item with its chunks; planning then deletes its vectors. Raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, Item, item_id, principal.owner_id, lock=True)
            if row.dataset_id != dataset_id:
                raise NotFoundError(f"no item {item_id} in dataset {dataset_id}")
            session.delete(row)
            Removal(session, self.outbox, principal.owner_id).replan([dataset_id])

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
        row.content_hash = content_hash(*texts)
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


def _readable_item(session: Session, principal: Principal, item_id: int, *, what: str | None = None) -> Item:
    statement: Select[tuple[Item]] = (
        select(Item)
        .join(Dataset, Dataset.dataset_id == Item.dataset_id)
        .where(
            Item.item_id == item_id,
            or_(Item.owner_id == principal.owner_id, Dataset.is_public),
        )
    )
    row = session.scalars(statement.options(undefer(Item.text))).one_or_none()
    if row is None:
        raise NotFoundError(f"no {what or f'item {item_id}'}")
    return row


def _item(row: Item) -> ItemView:
    return view(ItemView, row, metadata=row.metadata_, warnings=list(row.warnings))


def _chunk(row: ChunkRow) -> ChunkView:
    return view(
        ChunkView,
        row,
        content=row.text,
        metadata=row.metadata_,
        heading_path=list(row.heading_path),
    )
