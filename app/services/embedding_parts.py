"""What an embedding run reads and remembers: its target, passages part by part, what became of each item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_

from app.errors import InputRefusedError, PermanentError
from app.pipeline.embedding.isolation import Isolated
from app.services.status import Subject
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, EmbeddedDataset, Item

PART = 64  # passages embedded, then written while the next are embedded: memory holds two such parts
_MESSAGE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """Where the vectors go."""

    embedded_dataset_id: int
    transform_id: int
    dataset_id: int
    embedder_id: int
    owner_id: str
    index: str
    dimensions: int
    run_id: UUID | None  # of the transform: the plan that made the job

    @classmethod
    def of(cls, row: EmbeddedDataset, run_id: UUID | None) -> Target:
        """The target that an embedded dataset is. Raises PermanentError for a standalone one."""
        if row.dataset_transform_id is None or row.source_dataset_id is None or row.embedder_id is None:
            raise PermanentError("the embedded dataset is standalone: nothing is embedded into it")
        return cls(
            embedded_dataset_id=row.embedded_dataset_id,
            transform_id=row.dataset_transform_id,
            dataset_id=row.source_dataset_id,
            embedder_id=row.embedder_id,
            owner_id=row.owner_id,
            index=row.collection_name,
            dimensions=row.dimensions,
            run_id=run_id,
        )

    @property
    def subject(self) -> Subject:
        """Whom its events are about."""
        return Subject("dataset", self.transform_id, self.dataset_id, self.owner_id, self.run_id)


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with what its vector is filtered by."""

    chunk: ChunkRow
    payload: dict[str, Any]


@dataclass(slots=True)
class Counts:
    """Of the passages: how many, of them already in the index, and what the model did with the rest."""

    chunks: int = 0
    reused: int = 0
    refused: int = 0
    split: int = 0
    truncated: int = 0
    items_refused: int = 0  # items with such a passage: they have failed though their batch has not

    def add(self, chunks: int, missing: int, result: Isolated) -> None:
        """Count a part of so many passages, `missing` of which were not in the index."""
        self.chunks += chunks
        self.reused += chunks - missing
        self.refused += len(result.refused)
        self.split += result.split
        self.truncated += result.truncated


@dataclass(slots=True)
class Seen:
    """An item with the chunks that this run has come by."""

    item: Item
    chunk_ids: list[UUID] = field(default_factory=list)
    refused: dict[UUID, InputRefusedError] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """False where it was edited before its chunks were read, all at once: the plan for that does it."""
        return bool(self.chunk_ids) or not self.item.chunk_count

    @property
    def stored(self) -> list[UUID]:
        """The chunks whose vectors the index holds now."""
        return [chunk_id for chunk_id in self.chunk_ids if chunk_id not in self.refused]

    def refusal(self) -> str | None:
        """What to tell the owner of passages that are not embedded."""
        if not self.refused:
            return None
        first, error = next(iter(self.refused.items()))
        number = self.chunk_ids.index(first) + 1
        return (
            f"{len(self.refused)} of {len(self.chunk_ids)} passages were refused and cannot be found by "
            f"search, the first is passage {number}: {error.message}"
        )[:_MESSAGE_LENGTH]


def parts(database: Database, target: Target, items: Iterable[Item]) -> Iterator[list[Passage]]:
    """The passages of the items as they were read, `PART` at a time; those of one item are read at once."""
    passages = (passage for some in _read_together(items) for passage in _passages(database, target, some))
    while part := list(islice(passages, PART)):
        yield part


def as_read(items: Iterable[Item]) -> Sequence[tuple[int, str]]:
    """Ids with the content hashes that the items had when they were read."""
    return [(item.item_id, item.content_hash) for item in items]


def _read_together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Small items share a query: a batch of many would else spend its time on round trips."""
    some: list[Item] = []
    for item in items:
        some.append(item)
        if sum(each.chunk_count for each in some) >= PART:
            yield some
            some = []
    if some:
        yield some


def _passages(database: Database, target: Target, items: Sequence[Item]) -> Iterator[Passage]:
    by_id = {item.item_id: item for item in items}
    with database.transaction() as session:
        chunks = session.scalars(
            select(ChunkRow)
            .join(Item, Item.item_id == ChunkRow.item_id)
            .where(tuple_(Item.item_id, Item.content_hash).in_(as_read(items)))
            .order_by(ChunkRow.item_id, ChunkRow.position)
        ).all()
    for chunk in chunks:
        yield Passage(chunk, _payload(target, by_id[chunk.item_id], chunk))


def _payload(target: Target, item: Item, chunk: ChunkRow) -> dict[str, Any]:
    """What a vector can be filtered by. The text stays in Postgres, which knows what is current."""
    tags = {"tags": list(item.tags)} if item.tags else {}
    return {
        "owner_id": target.owner_id,
        "item_id": item.item_id,
        "file_id": item.file_id,
        "item_title": item.title,
        "media_type": item.media_type,
        "language": item.language,
        "page": chunk.page,
        "chunk_index": chunk.position,
        "created_at": item.created_at.isoformat(),
        **tags,
    }
