"""How an embedding run writes to its vector index: fenced, beside the next call of the model, patiently."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import exists, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.errors import InputRefusedError, NotFoundError, UnavailableError, VectorsMissingError
from app.jobs.contracts import PlanDatasetTransform
from app.services.embedding_parts import Passage, Seen, Target, as_read
from app.services.jobs import Jobs, Run
from app.storage.filters import items as of_items
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbeddedDataset, Item, ItemEmbedding
from app.storage.qdrant import VectorStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """New vectors, by position in `passages`, and passages whose vectors stay but get a new payload."""

    passages: Sequence[Passage]
    vectors: dict[int, NDArray[np.float32]]
    moved: Sequence[Passage]

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
class RunIndex:
    """The vector index of a target while one run embeds items into it."""

    database: Database
    jobs: Jobs
    vectors: VectorStore
    run: Run
    target: Target
    items: Sequence[Item]

    @contextmanager
    def held(self, *, ending: bool = False) -> Iterator[tuple[Session, set[int]]]:
        """Of the items, those that are still to embed as they were read; all stays so within the block.

        Vectors are no part of the transaction, so the rows that stand for them are locked while they are
        written: a plan that sees an edit, a deletion and a worker that takes over wait for that moment,
        and clean up after it. Once they were first, there is nothing left here to write. With `ending`,
        nobody takes what the index holds for lost within the block either.
        """
        with self.database.transaction() as session:
            self.jobs.fence(session, self.run)
            if ending:
                session.get(EmbeddedDataset, self.target.embedded_dataset_id, with_for_update={"read": True})
            held = session.scalars(
                select(ItemEmbedding.item_id)
                .where(
                    ItemEmbedding.embedded_dataset_id == self.target.embedded_dataset_id,
                    tuple_(ItemEmbedding.item_id, ItemEmbedding.content_hash).in_(as_read(self.items)),
                )
                .order_by(ItemEmbedding.item_id)
                .with_for_update()
            )
            yield session, set(held)

    def open(self) -> None:
        """Make the index where it is missing, and plan again what it held if somebody dropped it.

        Raises DimensionMismatchError, UnavailableError.
        """
        if not self.vectors.exists(self.target.index):
            self._take_for_lost()  # first: were the index there again, nobody would miss what it held
        with self.held() as (_, current):
            if current:
                self.vectors.ensure_index(self.target.index, self.target.dimensions)

    @contextmanager
    def reopened(self) -> Iterator[None]:
        """Where the index turns out to be dropped, make it anew and raise VectorsMissingError.

        Encloses `held`, because whoever takes vectors for lost waits for runs that are ending.
        """
        try:
            yield
        except NotFoundError as error:
            self.open()
            raise VectorsMissingError(
                f"vector index {self.target.index} was dropped while it was filled: "
                "it is made anew, and what it held is embedded again"
            ) from error

    def write(self, write: Write) -> None:
        """Write a part. Raises UnavailableError; VectorsMissingError where the index had to be made anew."""
        with self.reopened(), self.held() as (_, current):
            write.to(self.vectors, self.target.index, current)

    def keep_only(self, seen: Iterable[Seen]) -> None:
        """Delete the vectors that these items no longer have, and check that all others are there.

        Raises VectorsMissingError where they are not: another run deleted some when an item was edited to
        and fro, or the index was dropped. What is there is not embedded again.
        """
        ids: list[int] = []
        kept: list[UUID] = []
        for each in seen:
            ids.append(each.item.item_id)
            kept += each.stored
        if not ids:
            return
        self.vectors.delete_items(self.target.index, ids, keep=kept)
        found = self.vectors.count(self.target.index, of_items(ids))
        if found != len(kept):
            raise VectorsMissingError(f"the index holds {found} of {len(kept)} vectors of this batch")

    def _take_for_lost(self) -> None:
        """What the target's items have done is to do again; a new index has nothing to lose."""
        key = ItemEmbedding.embedded_dataset_id == self.target.embedded_dataset_id
        stored = or_(ItemEmbedding.state == "succeeded", ItemEmbedding.error_code == InputRefusedError.code)
        with self.database.transaction() as session:
            self.jobs.fence(session, self.run)
            # Waits for the runs that counted the index's vectors before it was dropped, and write it down.
            session.get(EmbeddedDataset, self.target.embedded_dataset_id, with_for_update={"key_share": True})
            if not session.scalar(select(exists().where(key, stored))):
                return
            in_order = select(ItemEmbedding.item_id).where(key, stored).order_by(ItemEmbedding.item_id)
            session.execute(
                update(ItemEmbedding)
                .where(key, ItemEmbedding.item_id.in_(in_order.with_for_update()))
                .values(state="pending", error_code=None, error_message=None)
                .execution_options(synchronize_session=False)
            )
            again = PlanDatasetTransform(self.target.transform_id)
            self.jobs.outbox.record(session, again, owner_id=self.target.owner_id)
        logger.warning("vector index %s is gone: all that it held is planned again", self.target.index)


class PartWriter:
    """Writes a part in a thread of its own while its run embeds the next: one at a time, in order.

    `write` is called again after each of `waits` seconds where it raises UnavailableError: the vectors are
    paid for. What it raises in the end is raised by the next `put`, or at the end of the block.
    """

    def __init__(self, write: Callable[[Write], None], waits: Sequence[float]) -> None:
        self._write = write
        self._waits = waits
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        self._writing: Future[None] | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        """Nothing is written yet."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Wait for the last part; a run that is stopped, or out of time, waits for no further attempt."""
        if error is not None and not isinstance(error, Exception):
            self._stopped.set()
        self._pool.shutdown()
        try:
            self._wait()
        except Exception as failure:
            if error is None:
                raise
            logger.warning("nor was the part before written: %s", failure)

    def put(self, write: Write) -> None:
        """Have a part written as soon as the one before is."""
        self._wait()
        self._writing = self._pool.submit(copy_context().run, self._patiently, write)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _patiently(self, write: Write) -> None:
        for wait in (*self._waits, None):
            try:
                self._write(write)
            except UnavailableError as error:
                if wait is None:
                    raise
                logger.warning("vectors not written, again in %.0f s: %s", wait, error)
                if self._stopped.wait(wait):
                    raise
            else:
                return
