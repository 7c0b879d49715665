"""Runs of the datasets pool: chunks become vectors; vectors of what is gone are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Update, delete, exists, func, select, update

from app.errors import NotFoundError
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

_CHUNKS_PER_CALL = 64  # embedded, then written, then the next: progress is kept and memory stays flat


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
        target, items = self._load(run, contract)
        counts = _Counts()
        if items:
            client = self.embedder(target.owner_id, target.embedder_id)
            self.vectors.ensure_index(target.index, target.dimensions)
            # An edited item may have fewer chunks than before; derived ids make the rest an upsert.
            self.vectors.delete_items(target.index, [item.item_id for item in items])
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
            target = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            back = set(
                session.scalars(
                    select(Item.item_id).where(
                        Item.item_id.in_(contract.item_ids),
                        Item.dataset_id == (target.source_dataset_id if target else -1),
                    )
                )
            )
        gone = [item_id for item_id in contract.item_ids if item_id not in back]
        if target is not None and gone:
            self.vectors.delete_items(target.collection_name, gone)
        with self.database.transaction() as session:
            session.execute(
                delete(ItemEmbedding).where(
                    ItemEmbedding.embedded_dataset_id == contract.embedded_dataset_id,
                    ItemEmbedding.item_id.in_(gone),
                )
            )
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

    def _load(self, run: Run, contract: EmbedItems) -> tuple[_Target, list[Item]]:
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            row = session.get(EmbeddedDataset, contract.embedded_dataset_id)
            if row is None:
                raise NotFoundError(f"embedded dataset {contract.embedded_dataset_id} was deleted")
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
            with self.database.transaction() as session:
                self.jobs.fence(session, run)  # a run that was taken over writes nothing
            self.vectors.upsert(
                target.index,
                [passage.chunk.chunk_id for passage in part],
                result.vectors,
                [passage.payload for passage in part],
            )
            counts.chunks += len(part)
            counts.split += result.split
            counts.truncated += result.truncated
            if counts.chunks > _CHUNKS_PER_CALL:
                tell(self.status, target.subject, "processing", job_id=run.job_id, chunks=counts.chunks)

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
