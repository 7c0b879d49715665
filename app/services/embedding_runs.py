"""Runs of the datasets pool: chunks become vectors; vectors of what is gone are deleted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Update, exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.errors import InputRefusedError, NotFoundError, UnavailableError, VectorsMissingError
from app.events.ports import StatusPublisher
from app.jobs.contracts import DeleteItemVectors, EmbedItems, PlanDatasetTransform
from app.observability import metrics
from app.pipeline.embedding.base import Embedder
from app.pipeline.embedding.isolation import Isolated, embed_each
from app.services.jobs import Jobs, Run
from app.services.status import Subject, tell
from app.storage.filters import items as of_items
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChunkRow,
    DatasetTransform,
    EmbeddedDataset,
    Item,
    ItemEmbedding,
)
from app.storage.qdrant import VectorStore

logger = logging.getLogger(__name__)

_CHUNKS_PER_CALL = 64  # embedded, then written, then the next: memory stays flat
_MESSAGE_LENGTH = 2000
_KEPT = {"read": True, "key_share": True}  # nobody deletes it meanwhile; changing it is allowed


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
    """Of the passages: how many, of them already in the index, and what the model did with the rest."""

    chunks: int = 0
    reused: int = 0
    refused: int = 0
    split: int = 0
    truncated: int = 0

    def add(self, chunks: int, missing: int, result: Isolated) -> None:
        self.chunks += chunks
        self.reused += chunks - missing
        self.refused += len(result.refused)
        self.split += result.split
        self.truncated += result.truncated


@dataclass(slots=True)
class _Seen:
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
        """What to tell the owner of passages that the provider does not take."""
        if not self.refused:
            return None
        first, error = next(iter(self.refused.items()))
        number = self.chunk_ids.index(first) + 1
        return (
            f"{len(self.refused)} of {len(self.chunk_ids)} passages were refused and cannot be found by "
            f"search, the first is passage {number}: {error.message}"
        )[:_MESSAGE_LENGTH]


@dataclass(frozen=True, slots=True)
class _Write:
    """New vectors, by position in `passages`, and passages whose vectors stay but get a new payload."""

    passages: Sequence[_Passage]
    vectors: dict[int, NDArray[np.float32]]
    moved: Sequence[_Passage]

    def to(self, store: VectorStore, index: str, current: set[int]) -> None:
        """Write those of the items that are still current."""
        rows = [row for row in self.vectors if self.passages[row].chunk.item_id in current]
        if rows:
            part = [self.passages[row] for row in rows]
            vectors = np.stack([self.vectors[row] for row in rows])
            store.upsert(
                index, [each.chunk.chunk_id for each in part], vectors, [each.payload for each in part]
            )
        moved = [passage for passage in self.moved if passage.chunk.item_id in current]
        store.replace_payloads(index, {passage.chunk.chunk_id: passage.payload for passage in moved})


@dataclass(frozen=True, slots=True)
class EmbeddingRuns:
    """Verbs of the embedding jobs. `embedder` opens the client of an owner's embedder."""

    database: Database
    jobs: Jobs
    status: StatusPublisher
    vectors: VectorStore
    embedder: Callable[[str, int], Embedder]
    write_waits_seconds: tuple[float, ...] = (1.0, 3.0, 9.0)

    def embed_items(self, run: Run, contract: EmbedItems) -> None:
        """Embed the chunks of the items and write them to the vector index.

        Items that were deleted or edited since planning are left to the plan that their change caused.
        Raises the errors of Embedder.embed, DimensionMismatchError and UnavailableError.
        """
        loaded = self._load(run, contract)
        if loaded is None:
            return
        target, items = loaded
        counts, seen = _Counts(), {item.item_id: _Seen(item) for item in items}
        if items:
            try:
                client = self.embedder(target.owner_id, target.embedder_id)
            except NotFoundError:  # nothing keeps the embedder of an embedded dataset that was deleted
                if self._is_gone(run, target):
                    return
                raise
            with self._held(run, target, items) as (_, current):
                if current:
                    self.vectors.ensure_index(target.index, target.dimensions)
            self._embed(run, target, client, seen, counts)
        self._finish(run, target, seen, counts)
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
            transform = session.get(DatasetTransform, row.dataset_transform_id, with_for_update=_KEPT)
            if transform is not None and not transform.is_enabled:
                # Read again and kept so: the plan of somebody who enables it just now must not count on us.
                session.refresh(transform, with_for_update={"read": True})
            if transform is None or not transform.is_enabled:
                reason = "deleted" if transform is None else "disabled"
                self.jobs.finish(session, run, outcome={"skipped": f"the transform is {reason}"})
                return None
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
                    tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(_read(items)),
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
        return target, list(items)

    def _is_gone(self, run: Run, target: _Target) -> bool:
        with self.database.transaction() as session:
            gone = session.get(EmbeddedDataset, target.embedded_dataset_id) is None
            if gone:
                self.jobs.finish(session, run, outcome={"skipped": "the embedded dataset was deleted"})
        return gone

    def _embed(
        self, run: Run, target: _Target, client: Embedder, seen: dict[int, _Seen], counts: _Counts
    ) -> None:
        items = [each.item for each in seen.values()]
        for part in _parts(self._passages(target, items), _CHUNKS_PER_CALL):
            # A chunk's id says all that its vector is made of: what the index holds is not paid for again.
            stored = self.vectors.payloads(target.index, [passage.chunk.chunk_id for passage in part])
            missing = [passage for passage in part if passage.chunk.chunk_id not in stored]
            with metrics.stage("embedding"):
                result = embed_each(client, [passage.chunk.text for passage in missing])
            for passage in part:
                seen[passage.chunk.item_id].chunk_ids.append(passage.chunk.chunk_id)
            for row, error in result.refused.items():
                seen[missing[row].chunk.item_id].refused[missing[row].chunk.chunk_id] = error
            moved = [each for each in part if stored.get(each.chunk.chunk_id, each.payload) != each.payload]
            self._store(run, target, items, _Write(missing, result.vectors, moved))
            counts.add(len(part), len(missing), result)
            if counts.chunks > _CHUNKS_PER_CALL:
                tell(self.status, target.subject, "processing", job_id=run.job_id, chunks=counts.chunks)

    def _store(self, run: Run, target: _Target, items: Sequence[Item], write: _Write) -> None:
        """Write what is still current, again after a pause where a server fails: the vectors are paid for."""
        for wait in (*self.write_waits_seconds, None):
            try:
                with self._held(run, target, items) as (_, current):
                    write.to(self.vectors, target.index, current)
            except UnavailableError as error:
                if wait is None:
                    raise
                logger.warning("vectors not written, again in %.0f s: %s", wait, error)
                time.sleep(wait)
            else:
                return

    def _finish(self, run: Run, target: _Target, seen: dict[int, _Seen], counts: _Counts) -> None:
        """Delete what the items no longer hold, check that the index holds the rest, write the outcomes.

        Raises VectorsMissingError where it does not: another run deleted some when an item was edited to
        and fro, or the index was dropped. What is there is not embedded again.
        """
        with self._held(run, target, [each.item for each in seen.values()]) as (session, current):
            whole = [each for key, each in seen.items() if key in current and each.whole]
            if whole:
                ids = [each.item.item_id for each in whole]
                kept = [chunk_id for each in whole for chunk_id in each.stored]
                self.vectors.delete_items(target.index, ids, keep=kept)
                found = self.vectors.count(target.index, of_items(ids))
                if found != len(kept):
                    raise VectorsMissingError(f"the index holds {found} of {len(kept)} vectors of this batch")
            for each in whole:
                session.execute(_done(target, each))
            if self._left(session, run):  # edited meanwhile, and the plan for that may have counted on us
                again = PlanDatasetTransform(target.transform_id)
                self.jobs.outbox.record(session, again, owner_id=target.owner_id)
            self.jobs.finish(session, run, outcome=asdict(counts))

    def _left(self, session: Session, run: Run) -> bool:
        mine = (ItemEmbedding.job_id == run.job_id) & (ItemEmbedding.state == "pending")
        return bool(session.scalar(select(exists().where(mine))))

    @contextmanager
    def _held(self, run: Run, target: _Target, items: Sequence[Item]) -> Iterator[tuple[Session, set[int]]]:
        """Of the items, those that are still to embed as they were read; all stays so within the block.

        Vectors are no part of the transaction, so the rows that stand for them are locked while they are
        written: a plan that sees an edit, a deletion and a worker that takes over wait for that moment,
        and clean up after it. Once they were first, there is nothing left here to write.
        """
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            held = session.scalars(
                select(ItemEmbedding.item_id)
                .where(
                    ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
                    tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(_read(items)),
                )
                .order_by(ItemEmbedding.item_id)
                .with_for_update()
            )
            yield session, set(held)

    def _passages(self, target: _Target, items: Sequence[Item]) -> Iterator[_Passage]:
        for item in items:
            with self.database.transaction() as session:
                chunks = session.scalars(
                    select(ChunkRow)
                    .join(Item, Item.item_id == ChunkRow.item_id)
                    .where(Item.item_id == item.item_id, Item.content_hash == item.content_hash)
                    .order_by(ChunkRow.position)
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


def _done(target: _Target, seen: _Seen) -> Update:
    refusal = seen.refusal()
    return (
        update(ItemEmbedding)
        .where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
            ItemEmbedding.item_id == seen.item.item_id,
            ItemEmbedding.content_hash == seen.item.content_hash,
        )
        .values(
            state="failed" if refusal else "succeeded",
            error_code=InputRefusedError.code if refusal else None,
            error_message=refusal,
            processed_at=func.now(),
        )
    )


def _read(items: Iterable[Item]) -> list[tuple[int, str]]:
    return [(item.item_id, item.content_hash) for item in items]


def _parts(passages: Iterable[_Passage], size: int) -> Iterator[list[_Passage]]:
    part: list[_Passage] = []
    for passage in passages:
        part.append(passage)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
