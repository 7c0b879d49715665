"""Vectors beside the rows that stand for them: what an index lacks, and what it holds of nobody.

Counts are compared, ids are not: one count for an index whose rows are all done, one for a page of items
where that one differs, then halves of the page. Only where an index holds more than all its rows account for
are its points read, to see whose they are; and in a thorough pass, which alone sees that an index is as of
before an edit. Nothing is written to an index here: rows are put where planning finds them (as a difference
of items and `item_embeddings`), and the runs that follow lock what they write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import NotFoundError
from app.jobs.contracts import PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.storage.filters import Filters
from app.storage.filters import items as of_items
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, EmbeddedDataset, ItemEmbedding
from app.storage.qdrant import Point, VectorStore

_PAGE = 500
_POINTS = 1000
_MOST_UNKNOWN = 10_000  # items of one index in one pass; the next one finds the rest
_KEPT = {"read": True, "key_share": True}  # nobody deletes it meanwhile; changing it is allowed


@dataclass(frozen=True, slots=True)
class Differing:
    """How many items of an embedded dataset have other vectors than their rows say.

    `incomplete`: done, but with more or fewer vectors than chunks. `unknown`: vectors, but no row.
    """

    embedded_dataset_id: int
    incomplete: int
    unknown: int

    def __str__(self) -> str:
        found = f"{self.incomplete} items without their vectors, {self.unknown} with vectors of nobody"
        return f"{self.embedded_dataset_id} ({found})"


@dataclass(frozen=True, slots=True)
class _Target:
    embedded_dataset_id: int
    transform_id: int
    index: str
    owner_id: str


@dataclass(frozen=True, slots=True)
class _Done:
    """An item's row as it was read; another job would have another id."""

    item_id: int
    job_id: UUID
    chunk_count: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class VectorCounts:
    """Compares vector indexes and rows."""

    database: Database
    outbox: Outbox
    vectors: VectorStore

    def compare(self, *, dry_run: bool, thorough: bool) -> list[Differing]:
        """One pass over all embedded datasets; what differs is planned again, unless it is a dry run.

        A thorough pass reads the ids of all points. Raises UnavailableError.
        """
        found = (self._compare(target, dry_run=dry_run, thorough=thorough) for target in self._targets())
        return [each for each in found if each.incomplete or each.unknown]

    def compare_missing(self, there: Collection[str]) -> list[Differing]:
        """The same for indexes that are not among `there`, names that were read before.

        One with rows that are done is gone: somebody dropped it. Raises UnavailableError.
        """
        away = (target for target in self._targets() if target.index not in there)
        gone = (target for target in away if not self.vectors.exists(target.index))
        found = (self._compare(target, dry_run=False, thorough=False) for target in gone)
        return [each for each in found if each.incomplete]

    def _compare(self, target: _Target, *, dry_run: bool, thorough: bool) -> Differing:
        points = self._count(target.index)  # before the items: what is written meanwhile is no surplus
        if not thorough and points == self._promised(target):
            return Differing(target.embedded_dataset_id, 0, 0)
        incomplete, accounted = 0, 0
        for page in self._pages(target):
            accounted += self._count(target.index, page)
            done = [row for row in page if row.is_done]
            wrong = self._by_ids(target.index, done) if thorough else list(self._wrong(target.index, done))
            incomplete += len(wrong)
            if wrong and not dry_run:
                self._redo(target, wrong)
        unknown = self._unknown(target, dry_run=dry_run) if points > accounted else 0
        return Differing(target.embedded_dataset_id, incomplete, unknown)

    def _wrong(self, index: str, rows: Sequence[_Done]) -> Iterator[_Done]:
        """Those whose vectors are not as many as their chunks, by halving what differs."""
        found = self._count(index, rows)
        if found == sum(row.chunk_count for row in rows):
            return
        if not found or len(rows) == 1:
            yield from (row for row in rows if found or row.chunk_count)
            return
        middle = len(rows) // 2
        yield from self._wrong(index, rows[:middle])
        yield from self._wrong(index, rows[middle:])

    def _by_ids(self, index: str, rows: Sequence[_Done]) -> list[_Done]:
        """Those whose vectors are not those of their chunks, whatever their number."""
        item_ids = [row.item_id for row in rows]
        there: defaultdict[int, int] = defaultdict(int)
        for point in self._points(index, of_items(item_ids)):
            there[point.payload["item_id"]] ^= point.id.int
        wanted: defaultdict[int, int] = defaultdict(int)
        chunks = select(ChunkRow.item_id, ChunkRow.chunk_id).where(ChunkRow.item_id.in_(item_ids))
        with self.database.transaction() as session:
            for item_id, chunk_id in session.execute(chunks.execution_options(yield_per=_POINTS)):
                wanted[item_id] ^= chunk_id.int
        return [row for row in rows if there[row.item_id] != wanted[row.item_id]]

    def _count(self, index: str, rows: Sequence[_Done] | None = None) -> int:
        """Points of these items, of all without; an index that is not there holds none."""
        with suppress(NotFoundError):
            return self.vectors.count(index, None if rows is None else of_items(r.item_id for r in rows))
        return 0

    def _targets(self) -> Iterator[_Target]:
        columns = (
            EmbeddedDataset.embedded_dataset_id,
            EmbeddedDataset.dataset_transform_id,
            EmbeddedDataset.collection_name,
            EmbeddedDataset.owner_id,
        )
        # What was pushed into a standalone one no row promises, and no plan brings back.
        kept, last = EmbeddedDataset.dataset_transform_id.is_not(None), 0
        while True:
            statement = select(*columns).where(columns[0] > last, kept).order_by(columns[0]).limit(_PAGE)
            with self.database.transaction() as session:
                page = [_Target(*row) for row in session.execute(statement)]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].embedded_dataset_id

    def _promised(self, target: _Target) -> int | None:
        """How many vectors the rows stand for; None while some are not done."""
        totals = select(
            func.coalesce(func.sum(ItemEmbedding.chunk_count), 0),
            func.coalesce(func.bool_and(ItemEmbedding.state == "succeeded"), True),
        ).where(ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id)
        with self.database.transaction() as session:
            total, all_done = session.execute(totals).one()
        return int(total) if all_done else None

    def _pages(self, target: _Target) -> Iterator[list[_Done]]:
        last = 0
        while True:
            with self.database.transaction() as session:
                page = [_Done(*row) for row in session.execute(_rows(target, last))]
            if page:
                yield page
            if len(page) < _PAGE:
                return
            last = page[-1].item_id

    def _redo(self, target: _Target, rows: Sequence[_Done]) -> None:
        """The rows wait again, but for those that another job has come by since they were read."""
        mine = ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id
        as_read = tuple_(ItemEmbedding.item_id, ItemEmbedding.job_id).in_(
            [(row.item_id, row.job_id) for row in rows]
        )
        with self.database.transaction() as session:
            held = session.scalars(
                select(ItemEmbedding.item_id)
                .where(mine, as_read, ItemEmbedding.state == "succeeded")
                .order_by(ItemEmbedding.item_id)
                .with_for_update()
            ).all()
            if held:
                again = update(ItemEmbedding).where(mine, ItemEmbedding.item_id.in_(held))
                session.execute(again.values(state="pending", processed_at=None))
                self._plan(session, target)

    def _unknown(self, target: _Target, *, dry_run: bool) -> int:
        """Read all points; items that have some and no row get one, which planning will not agree with."""
        unknown: set[int] = set()
        points = self._points(target.index)
        while page := list(islice(points, _POINTS)):
            fresh = self._without_row(target, {point.payload["item_id"] for point in page} - unknown)
            if fresh and not dry_run:
                self._stand_in(target, fresh)
            unknown |= fresh
            if len(unknown) >= _MOST_UNKNOWN:
                break
        return len(unknown)

    def _points(self, index: str, filters: Filters | None = None) -> Iterator[Point]:
        cursor = None
        with suppress(NotFoundError):
            while True:
                page = self.vectors.scroll(index, limit=_POINTS, cursor=cursor, filters=filters)
                yield from page.points
                cursor = page.cursor
                if cursor is None:
                    return

    def _without_row(self, target: _Target, wanted: set[int]) -> set[int]:
        # A row is there before its first vector and until after its last.
        with self.database.transaction() as session:
            known = session.scalars(
                select(ItemEmbedding.item_id).where(
                    ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
                    ItemEmbedding.item_id.in_(wanted),
                )
            )
            return wanted - set(known)

    def _stand_in(self, target: _Target, item_ids: Iterable[int]) -> None:
        """Rows of no content: planning deletes the vectors of items that are gone and embeds the others."""
        rows = [
            {
                "embedded_dataset_id": target.embedded_dataset_id,
                "item_id": item_id,
                "content_hash": "",
                "state": "pending",
                "job_id": uuid4(),
                "chunk_count": 0,
            }
            for item_id in sorted(item_ids)
        ]
        with self.database.transaction() as session:
            if session.get(EmbeddedDataset, target.embedded_dataset_id, with_for_update=_KEPT) is not None:
                session.execute(insert(ItemEmbedding).values(rows).on_conflict_do_nothing())
                self._plan(session, target)

    def _plan(self, session: Session, target: _Target) -> None:
        self.outbox.record(session, PlanDatasetTransform(target.transform_id), owner_id=target.owner_id)


def _rows(target: _Target, after: int) -> Select[Any]:
    return (
        select(
            ItemEmbedding.item_id,
            ItemEmbedding.job_id,
            ItemEmbedding.chunk_count,
            ItemEmbedding.state == "succeeded",
        )
        .where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
            ItemEmbedding.item_id > after,
        )
        .order_by(ItemEmbedding.item_id)
        .limit(_PAGE)
    )
