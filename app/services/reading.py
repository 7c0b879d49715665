"""Reading: a document with its passages, passages by id, and the files of a collection with their state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, func, select, true
from sqlalchemy.orm import undefer

from app.errors import JobCancelledError, NotFoundError
from app.security.principal import Principal
from app.storage.postgres.queries.file_states import STATES, deciding_transform
from app.storage.postgres.queries.pages import count
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChunkRow,
    Collection,
    File,
    Item,
    ItemEmbedding,
    VisualizationTransform,
)

MAX_PASSAGES = 500
_MOST_FACETS = 40
# What the list is narrowed to, in the words of file_states; together they are all files.
_NARROWED = {
    "failed": ("failed",),
    "read": ("succeeded",),
    "waiting": ("stored", "pending", "processing"),
}


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk and the document it comes from; `item_id` is None of what was pushed from outside."""

    chunk_id: UUID
    item_id: int | None
    item_title: str
    text: str
    page: int | None
    heading_path: tuple[str, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Span:
    """Where a chunk lies in its document's text."""

    chunk_id: UUID
    position: int
    start: int
    end: int
    page: int | None
    heading_path: tuple[str, ...]
    token_count: int


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document as it is read: the text, the spans of its chunks in order, where it came from."""

    item_id: int
    dataset_id: int
    title: str
    text: str
    media_type: str | None
    language: str | None
    page_count: int | None
    metadata: dict[str, Any]
    warnings: tuple[str, ...]
    spans: tuple[Span, ...]
    file_id: int | None
    file_name: str | None
    file_size_bytes: int | None
    collection_id: int | None
    collection_title: str | None
    visualization_transform_id: int | None


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of a collection and what became of it."""

    file_id: int
    name: str
    media_type: str
    size_bytes: int
    uploaded_at: datetime
    state: str  # waiting, running, retrying, failed, cancelled, read
    error_message: str | None
    attempt: int
    item_id: int | None
    chunk_count: int | None
    page_count: int | None
    language: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilePage:
    """One page of files and how many there are in all."""

    files: tuple[FileState, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Facets:
    """What documents can be narrowed by: values with the number of documents, most frequent first."""

    media_types: tuple[tuple[str, int], ...]
    languages: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Verbs that read text."""

    database: Database

    def document(self, principal: Principal, item_id: int) -> DocumentView:
        """The whole document; raises NotFoundError unless it is the owner's."""
        with self.database.transaction() as session:
            item = session.scalar(
                select(Item)
                .where(Item.item_id == item_id, Item.owner_id == principal.owner_id)
                .options(undefer(Item.text))
            )
            if item is None:
                raise NotFoundError(f"no document {item_id}")
            source = session.execute(
                select(File, Collection)
                .join(Collection, Collection.collection_id == File.collection_id)
                .where(File.file_id == item.file_id)
            ).one_or_none()
            spans = session.scalars(
                select(ChunkRow).where(ChunkRow.item_id == item_id).order_by(ChunkRow.position)
            ).all()
            on_map = session.scalar(
                select(func.max(VisualizationTransform.visualization_transform_id))
                .join(
                    ItemEmbedding,
                    ItemEmbedding.embedded_dataset_id == VisualizationTransform.embedded_dataset_id,
                )
                .where(ItemEmbedding.item_id == item_id)
            )
        return _document(item, source, spans, on_map)

    def passages(self, principal: Principal, chunk_ids: Sequence[UUID]) -> list[Passage]:
        """The owner's passages among the first 500 ids, in the order asked for; unknown ids are left out."""
        wanted = list(chunk_ids)[:MAX_PASSAGES]
        with self.database.transaction() as session:
            rows = session.execute(
                select(ChunkRow, Item.title)
                .join(Item, Item.item_id == ChunkRow.item_id)
                .where(ChunkRow.chunk_id.in_(wanted), Item.owner_id == principal.owner_id)
            )
            found = {chunk.chunk_id: _passage(chunk, title) for chunk, title in rows}
        return [found[one] for one in wanted if one in found]

    def facets(self, principal: Principal) -> Facets:
        """Types and languages of the owner's documents."""
        with self.database.transaction() as session:
            found = [
                session.execute(
                    select(column, func.count())
                    .where(Item.owner_id == principal.owner_id, column.is_not(None))
                    .group_by(column)
                    .order_by(func.count().desc(), column)
                    .limit(_MOST_FACETS)
                )
                .tuples()
                .all()
                for column in (Item.media_type, Item.language)
            ]
        types, languages = (tuple((str(value), number) for value, number in rows) for rows in found)
        return Facets(types, languages)

    def files(
        self,
        principal: Principal,
        collection_id: int,
        *,
        state: str | None = None,
        name: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> FilePage:
        """Files newest first; `state` failed (cancelled ones, too), read or waiting (to come) narrows."""
        plain = select(File.file_id).where(
            File.collection_id == collection_id, File.owner_id == principal.owner_id
        )
        if name:
            plain = plain.where(File.name.icontains(name, autoescape=True))
        found = _with_states(plain)
        if state is not None:
            found = found.where(
                found.selected_columns.rank.in_([STATES.index(one) for one in _NARROWED[state]])
            )
        with self.database.transaction() as session:
            total = count(session, plain if state is None else found)
            rows = session.execute(found.order_by(File.file_id.desc()).limit(limit).offset(offset)).all()
        return FilePage(tuple(_file_state(row) for row in rows), total)


def _with_states(files: Select[tuple[int]]) -> Select[Any]:
    """With what became of each file, and with its document as the transform that decides this left it."""
    decides = deciding_transform()
    document = and_(
        Item.dataset_id == decides.c.dataset_id,
        Item.collection_transform_id == decides.c.collection_transform_id,
        Item.file_id == File.file_id,
    )
    columns = (
        File.name,
        File.media_type,
        File.size_bytes,
        File.updated_at,
        func.coalesce(decides.c.rank, STATES.index("stored")).label("rank"),
        decides.c.error_code,
        decides.c.error_message,
        decides.c.chunk_count,
        decides.c.job_state,
        decides.c.attempt,
        decides.c.job_error,
        Item.item_id,
        Item.page_count,
        Item.language,
        Item.warnings,
    )
    return (
        files.add_columns(*columns).outerjoin_from(File, decides, true()).outerjoin_from(File, Item, document)
    )


def _file_state(row: Any) -> FileState:
    state = _state(row)
    return FileState(
        file_id=row.file_id,
        name=row.name,
        media_type=row.media_type,
        size_bytes=row.size_bytes,
        uploaded_at=row.updated_at,
        state=state,
        error_message=row.error_message if state in {"failed", "cancelled"} else row.job_error,
        attempt=row.attempt or 0,
        item_id=row.item_id,
        chunk_count=row.chunk_count if state == "read" else None,
        page_count=row.page_count,
        language=row.language,
        warnings=tuple(row.warnings or ()),
    )


def _state(row: Any) -> str:
    match STATES[row.rank]:
        case "failed":
            return "cancelled" if row.error_code == JobCancelledError.code else "failed"
        case "succeeded":
            return "read"
        case "processing":
            return str(row.job_state)  # running or retrying
    return "waiting"


def _passage(chunk: ChunkRow, title: str) -> Passage:
    return Passage(
        chunk_id=chunk.chunk_id,
        item_id=chunk.item_id,
        item_title=title,
        text=chunk.text,
        page=chunk.page,
        heading_path=tuple(chunk.heading_path),
        position=chunk.position,
    )


def _document(item: Item, source: Any, chunks: Sequence[ChunkRow], on_map: int | None) -> DocumentView:
    file, collection = source or (None, None)
    return DocumentView(
        item_id=item.item_id,
        dataset_id=item.dataset_id,
        title=item.title,
        text=item.text,
        media_type=item.media_type,
        language=item.language,
        page_count=item.page_count,
        metadata=dict(item.metadata_),
        warnings=tuple(item.warnings),
        spans=tuple(
            Span(
                c.chunk_id, c.position, c.start_char, c.end_char, c.page, tuple(c.heading_path), c.token_count
            )
            for c in chunks
        ),
        file_id=file.file_id if file else None,
        file_name=file.name if file else None,
        file_size_bytes=file.size_bytes if file else None,
        collection_id=collection.collection_id if collection else None,
        collection_title=collection.title if collection else None,
        visualization_transform_id=on_map,
    )
