"""Runs of the datasets pool: chunks become vectors; vectors of what is gone are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Update, exists, func, select, tuple_, update

from app.events.ports import StatusPublisher
from app.jobs.contracts import DeleteItemVectors, EmbedItems
from app.observability import metrics
from app.pipeline.embedding.base import Embedder
from app.services.jobs import Jobs, Run
from app.services.status import Subject, tell
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChunkRow,
    DatasetTransform,
    EmbeddedDataset,
    Item,
    ItemEmbedding,
)
from app.storage.qdrant import VectorStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNKS_PER_CALL = 64  # embedded, then written, then the next: memory stays flat


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the vectors go."""

    embedded_dataset_id: int
    transform_id: int
    dataset_id: int
    embedder_id: int
    owner_id: str
    index: str
    dimensions: int

    @property
    def subject(self) -> Subject:
        return Subject("dataset", self.transform_id, self.dataset_id, self.owner_id)


@dataclass(frozen=True, slots=True)
class _Passage:
    """A chunk with what its vector is filtered by."""

    chunk: ChunkRow
    payload: dict[str, Any]


@dataclass(slots=True)
class _Counts:
    chunks: int = 0
    split: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddingRuns:
    """Verbs of the embedding jobs. `embedder` opens the client of an owner's embedder."""

    database: Database
    jobs: Jobs
    status: StatusPublisher
    vectors: VectorStore
    embedder: Callable[[str, int], Embedder]

    def embed_items(self, run: Run, contract: EmbedItems) -> None:
        """Embed the chunks of the items and write them to the vector index.

        Items that were deleted or edited since planning are left to the plan that their change caused.
        Raises the errors of Embedder.embed, DimensionMismatchError and UnavailableError.
        """
        loaded = self._load(run, contract)
        if loaded is None:
            return
        target, items = loaded
        counts = _Counts()
        if items:
            client = self.embedder(target.owner_id, target.embedder_id)
            with self._held(run, target, items) as current:
                if current:
                    self.vectors.ensure_index(target.index, target.dimensions)
                    # An edited item may have fewer chunks than before; derived ids make the rest an upsert.
                    self.vectors.delete_items(target.index, current)
            self._embed(run, target, client, items, counts)
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            for item in items:
                session.execute(_done(target, item))
            self.jobs.finish(session, run, outcome=asdict(counts))
        tell(self.status, target.subject, "success", job_id=run.job_id, **asdict(counts))

    def delete_item_vectors(self, run: Run, contract: DeleteItemVectors) -> None:
        """Delete the vectors of items that are gone; an item that came back is kept."""
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            target = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            if target is not None:
                # Locked until the vectors are gone: a run that embeds these items just now writes no more.
                gone = session.scalars(
                    select(ItemEmbedding)
                    .where(
                        ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
                        ItemEmbedding.item_id.in_(contract.item_ids),
                        ~exists().where(
                            Item.item_id == ItemEmbedding.item_id,
                            Item.dataset_id == target.source_dataset_id,
                        ),
                    )
                    .order_by(ItemEmbedding.item_id)
                    .with_for_update()
                ).all()
                self.vectors.delete_items(target.collection_name, [row.item_id for row in gone])
                for row in gone:
                    session.delete(row)
            self.jobs.finish(session, run)

    def drop_vector_index(self, run: Run, collection_name: str) -> None:
        """Drop an index that no embedded dataset names any more."""
        with self.database.transaction() as session:
            named = exists().where(EmbeddedDataset.collection_name == collection_name)
            in_use = session.scalar(select(named))
        if not in_use:
            self.vectors.drop(collection_name)
        with self.database.transaction() as session:
            self.jobs.finish(session, run)

    def _load(self, run: Run, contract: EmbedItems) -> tuple[_Target, list[Item]] | None:
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            row = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            if row is None:
                self.jobs.finish(session, run, outcome={"skipped": "the embedded dataset was deleted"})
                return None
            transform = session.get_one(DatasetTransform, row.dataset_transform_id)
            wanted = (
                (ItemEmbedding.embedded_dataset_id == row.embedded_dataset_id)
                & (ItemEmbedding.item_id == Item.item_id)
                & (ItemEmbedding.content_hash == Item.content_hash)
                & (ItemEmbedding.state == "pending")
            )
            items = session.scalars(
                select(Item).join(ItemEmbedding, wanted).where(Item.item_id.in_(contract.item_ids))
            ).all()
            session.execute(
                update(ItemEmbedding)
                .where(
                    ItemEmbedding.embedded_dataset_id == row.embedded_dataset_id,
                    ItemEmbedding.item_id.in_([item.item_id for item in items]),
                )
                .values(job_id=run.job_id)
            )
        target = _Target(
            embedded_dataset_id=row.embedded_dataset_id,
            transform_id=row.dataset_transform_id,
            dataset_id=row.source_dataset_id,
            embedder_id=row.embedder_id,
            owner_id=row.owner_id,
            index=row.collection_name,
            dimensions=row.dimensions,
        )
        return target, list(items) if transform.is_enabled else []

    def _embed(
        self, run: Run, target: _Target, client: Embedder, items: Sequence[Item], counts: _Counts
    ) -> None:
        for part in _parts(self._passages(target, items), _CHUNKS_PER_CALL):
            with metrics.stage("embedding"):
                result = client.embed([passage.chunk.text for passage in part], purpose="document")
            with self._held(run, target, items) as current:
                counts.chunks += self._write(target, part, result.vectors, current)
            counts.split += result.split
            counts.truncated += result.truncated
            if counts.chunks > _CHUNKS_PER_CALL:
                tell(self.status, target.subject, "processing", job_id=run.job_id, chunks=counts.chunks)

    @contextmanager
    def _held(self, run: Run, target: _Target, items: Sequence[Item]) -> Iterator[set[int]]:
        """Of the items, those that are still to embed as they were read; all stays so within the block.

        Vectors are no part of the transaction, so the rows that stand for them are locked while they are
        written: a plan that sees an edit, a deletion and a worker that takes over wait for that moment,
        and clean up after it. Once they were first, there is nothing left here to write.
        """
        read = [(item.item_id, item.content_hash) for item in items]
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            yield set(
                session.scalars(
                    select(ItemEmbedding.item_id)
                    .where(
                        ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
                        tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(read),
                    )
                    .order_by(ItemEmbedding.item_id)
                    .with_for_update()
                )
            )

    def _write(
        self, target: _Target, part: Sequence[_Passage], vectors: NDArray[np.float32], current: set[int]
    ) -> int:
        rows = [row for row, passage in enumerate(part) if passage.chunk.item_id in current]
        if rows:
            self.vectors.upsert(
                target.index,
                [part[row].chunk.chunk_id for row in rows],
                vectors[rows],
                [part[row].payload for row in rows],
            )
        return len(rows)

    def _passages(self, target: _Target, items: Sequence[Item]) -> Iterator[_Passage]:
        for item in items:
            with self.database.transaction() as session:
                chunks = session.scalars(
                    select(ChunkRow).where(ChunkRow.item_id == item.item_id).order_by(ChunkRow.position)
                ).all()
            for chunk in chunks:
                yield _Passage(chunk, _payload(target, item, chunk))


def _payload(target: _Target, item: Item, chunk: ChunkRow) -> dict[str, Any]:
    """What a vector can be filtered by. The text stays in Postgres, which knows what is current."""
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
    }


def _done(target: _Target, item: Item) -> Update:
    return (
        update(ItemEmbedding)
        .where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
            ItemEmbedding.item_id == item.item_id,
            ItemEmbedding.content_hash == item.content_hash,  # edited meanwhile: the next plan sees it
        )
        .values(
            state="succeeded",
            error_code=None,
            error_message=None,
            processed_at=func.now(),
        )
    )


def _parts(passages: Iterable[_Passage], size: int) -> Iterator[list[_Passage]]:
    part: list[_Passage] = []
    for passage in passages:
        part.append(passage)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
