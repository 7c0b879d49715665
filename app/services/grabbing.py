"""Grabbing: a copy of something public, which belongs to whoever grabbed it. Keys stay where they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Row, func, insert, inspect, select
from sqlalchemy.orm import Session

from app.errors import ConflictError, ExplorerError, NotFoundError, TooLargeError
from app.ids import chunk_id
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import TITLE_LENGTH
from app.services.removal import Removal
from app.storage.postgres.queries.owned import readable
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, Collection, Dataset, EmbedderRow, File, Item, LlmRow
from app.storage.s3 import BlobStore

Shared = TypeVar("Shared", Collection, Dataset, EmbedderRow, LlmRow)

logger = logging.getLogger(__name__)

MOST_FILES, MOST_CHUNKS = 1000, 100_000
_SUFFIX = "-grabbed"
_ITEMS_AT_ONCE = 100
_OWN = frozenset({"owner_id", "created_at", "updated_at", "is_public", "api_key_sealed"})
_COPIED = (
    "title", "text", "content_hash", "chunk_count", "media_type", "language", "page_count",
    "tags", "warnings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grabbing:
    """Verbs that copy; each returns the copy's id and raises NotFoundError for what is not public."""

    database: Database
    outbox: Outbox
    blobs: BlobStore

    def embedder(self, principal: Principal, embedder_id: int) -> int:
        """Copy an embedder; it has no key until its new owner gives one."""
        with self.database.transaction() as session:
            source = readable(session, EmbedderRow, embedder_id, principal.owner_id)
            return _added(session, principal, source).embedder_id

    def llm(self, principal: Principal, llm_id: int) -> int:
        """Copy an LLM; it has no key until its new owner gives one."""
        with self.database.transaction() as session:
            return _added(session, principal, readable(session, LlmRow, llm_id, principal.owner_id)).llm_id

    def dataset(self, principal: Principal, dataset_id: int) -> int:
        """Copy a dataset with items and chunks, as if they had been pushed; raises TooLargeError."""
        with self.database.transaction() as session:
            source = readable(session, Dataset, dataset_id, principal.owner_id)
            size = select(func.coalesce(func.sum(Item.chunk_count), 0)).where(Item.dataset_id == dataset_id)
            _refuse_large(session.scalar(size) or 0, MOST_CHUNKS, "dataset", "passages")
            copy = _added(session, principal, source)
            _copy_items(session, principal, dataset_id, copy.dataset_id)
            return copy.dataset_id

    def collection(self, principal: Principal, collection_id: int) -> int:
        """Copy a collection with its files; raises TooLargeError, ConflictError, UnavailableError."""
        with self.database.transaction() as session:
            readable(session, Collection, collection_id, principal.owner_id)
            in_it = File.collection_id == collection_id
            files = session.scalars(select(File).where(in_it).limit(MOST_FILES + 1)).all()
            _refuse_large(len(files), MOST_FILES, "collection", "files")
        keys = [f"files/{uuid4()}" for _ in files]
        try:
            self._copy_objects([file.object_key for file in files], keys)
            with self.database.transaction() as session:
                source = readable(session, Collection, collection_id, principal.owner_id)
                copy = _added(session, principal, source)
                for file, key in zip(files, keys, strict=True):
                    session.add(_file(file, copy, key))
                return copy.collection_id
        except BaseException:
            self._discard(principal, keys)
            raise

    def _copy_objects(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        try:
            for source, target in zip(sources, targets, strict=True):
                self.blobs.copy(source, target)
        except NotFoundError:
            raise ConflictError("a file of the collection was deleted meanwhile: grab it again") from None

    def _discard(self, principal: Principal, keys: Sequence[str]) -> None:
        try:
            with self.database.transaction() as session:
                Removal(session, self.outbox, principal.owner_id).objects(keys)
        except ExplorerError:  # the sweep finds them within the hour
            logger.warning("objects of a failed copy stay behind", extra={"count": len(keys)})


@dataclass(slots=True)
class _Titles:
    """Titles of items that were not pushed need not differ; those of a copy must."""

    taken: set[str] = field(default_factory=set)

    def free(self, title: str) -> str:
        names = (title if number == 1 else f"{title} ({number})" for number in count(1))
        found = next(name for name in names if name not in self.taken)
        self.taken.add(found)
        return found


def _added(session: Session, principal: Principal, source: Shared) -> Shared:
    """A private copy of the row, with neither owner nor key of the source, in the session with its id."""
    mapper = inspect(type(source))
    keys = {attribute.key for attribute in mapper.column_attrs}
    kept = keys - _OWN - {column.key for column in mapper.primary_key}
    copy = type(source)(owner_id=principal.owner_id, **{key: getattr(source, key) for key in kept})
    name = "title" if "title" in keys else "name"
    setattr(copy, name, getattr(source, name)[: TITLE_LENGTH - len(_SUFFIX)] + _SUFFIX)
    session.add(copy)
    session.flush()
    return copy


def _refuse_large(size: int, most: int, thing: str, unit: str) -> None:
    if size > most:
        raise TooLargeError(f"only a {thing} of at most {most:,} {unit} can be grabbed")


def _file(source: File, into: Collection, key: str) -> File:
    return File(
        owner_id=into.owner_id,
        collection_id=into.collection_id,
        object_key=key,
        name=source.name,
        media_type=source.media_type,
        size_bytes=source.size_bytes,
        content_hash=source.content_hash,
    )


def _copy_items(session: Session, principal: Principal, source_id: int, target_id: int) -> None:
    titles, last = _Titles(), 0
    columns = [getattr(Item, name) for name in _COPIED]
    statement = select(Item.item_id, *columns, Item.metadata_.label("metadata_")).order_by(Item.item_id)
    while items := session.execute(
        statement.where(Item.dataset_id == source_id, Item.item_id > last).limit(_ITEMS_AT_ONCE)
    ).all():
        rows = [
            {
                **{name: getattr(item, name) for name in (*_COPIED, "metadata_")},
                "title": titles.free(item.title),
                "owner_id": principal.owner_id,
                "dataset_id": target_id,
            }
            for item in items
        ]
        made = session.scalars(insert(Item).returning(Item.item_id, sort_by_parameter_order=True), rows).all()
        _copy_chunks(session, {item.item_id: new for item, new in zip(items, made, strict=True)})
        last = items[-1].item_id


def _copy_chunks(session: Session, new_ids: dict[int, int]) -> None:
    chunks = session.execute(
        select(ChunkRow.__table__).where(ChunkRow.item_id.in_(new_ids)).execution_options(yield_per=1000)
    )
    for part in chunks.partitions():
        session.execute(insert(ChunkRow), list(_chunk_rows(part, new_ids)))


def _chunk_rows(chunks: Sequence[Row[Any]], new_ids: dict[int, int]) -> Iterator[dict[str, Any]]:
    for chunk in chunks:
        values = dict(chunk._mapping)  # noqa: SLF001 - how SQLAlchemy names a row's columns
        item_id = new_ids[chunk.item_id]
        metadata = values.pop("metadata")
        key = chunk_id(item_id, chunk.start_char, chunk.end_char, chunk.text)
        yield {**values, "metadata_": metadata, "item_id": item_id, "chunk_id": key}
