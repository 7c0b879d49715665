"""Planning: what a transform has not done yet, found as a set difference and turned into jobs.

There are no watermarks: every plan compares what is there (files, items) with what was done
(file_extractions, item_embeddings), so an edit, a late commit or a lost job is found by the next plan.
Plans run as jobs, page by page, each page in its own fenced transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from app.events.ports import StatusPublisher
from app.ids import content_hash
from app.jobs.contracts import DeleteItemVectors, EmbedItems, ExtractFile
from app.jobs.outbox import Outbox
from app.services.jobs import Jobs, Run
from app.services.status import Subject, tell
from app.storage.postgres.queries.settled import settled_file, settled_item
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
)

_PAGE = 500
_BATCH_CHUNKS = 128  # a batch is closed once it holds so many chunks: some seconds of embedding
_BATCH_ITEMS = 64
_KEPT = {"read": True, "key_share": True}  # nobody deletes it meanwhile; changing it is allowed
_DELETED = {"skipped": "the transform was deleted"}


@dataclass(frozen=True, slots=True)
class _PendingItem:
    item_id: int
    content_hash: str
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Planning:
    """Verbs of the planning jobs."""

    database: Database
    outbox: Outbox
    jobs: Jobs
    status: StatusPublisher

    def plan_collection_transform(self, run: Run, collection_transform_id: int) -> None:
        """Record an ExtractFile job for every file the transform has not done in its present version."""
        last_file_id, planned = 0, 0
        while True:
            with self.database.transaction() as session:
                self.jobs.fence(session, run)
                # Held before its files, as everywhere: see Removal.
                transform = session.get(CollectionTransform, collection_transform_id, with_for_update=_KEPT)
                if transform is None:
                    self.jobs.finish(session, run, outcome=_DELETED)
                    return
                files = (
                    session.execute(_files_to_do(transform, last_file_id)).all()
                    if transform.is_enabled
                    else []
                )
                self._record_extractions(
                    session, run, transform, [(row.file_id, row.version) for row in files]
                )
                planned += len(files)
                if len(files) < _PAGE:
                    self.jobs.finish(session, run)
                    break
                last_file_id = files[-1].file_id
        subject = Subject(
            "collection", collection_transform_id, transform.collection_id, transform.owner_id, run.job_id
        )
        if planned:
            tell(self.status, subject, "pending", job_id=run.job_id, planned=planned)

    def plan_dataset_transform(self, run: Run, dataset_transform_id: int) -> None:
        """Record embedding jobs for new and edited items, and clean-up jobs for deleted ones."""
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            transform = session.get(DatasetTransform, dataset_transform_id)
            if transform is None:
                self.jobs.finish(session, run, outcome=_DELETED)
                return
            targets = session.scalars(
                select(EmbeddedDataset).where(EmbeddedDataset.dataset_transform_id == dataset_transform_id)
            ).all()
        planned = 0
        for target in targets:
            self._plan_removals(run, target)
            if transform.is_enabled:
                planned += self._plan_embeddings(run, target)
        with self.database.transaction() as session:
            self.jobs.finish(session, run)
        subject = Subject(
            "dataset", dataset_transform_id, transform.source_dataset_id, transform.owner_id, run.job_id
        )
        if planned:
            tell(self.status, subject, "pending", job_id=run.job_id, planned=planned)

    def _record_extractions(
        self, session: Session, run: Run, transform: CollectionTransform, files: Sequence[tuple[int, int]]
    ) -> None:
        if not files:
            return
        transform_id = transform.collection_transform_id
        jobs = self.outbox.record_many(
            session,
            [ExtractFile(transform_id, file_id, version) for file_id, version in files],
            owner_id=transform.owner_id,
            planned_by=run.job_id,
        )
        rows = [
            {
                "collection_transform_id": transform_id,
                "file_id": file_id,
                "file_version": version,
                "config_hash": transform.config_hash,
                "state": "pending",
                "job_id": job_id,
            }
            for (file_id, version), job_id in zip(files, jobs, strict=True)
        ]
        statement = insert(FileExtraction).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["collection_transform_id", "file_id"],
                set_=_replaced(statement, "file_version", "config_hash", "state", "job_id"),
            )
        )

    def _plan_embeddings(self, run: Run, target: EmbeddedDataset) -> int:
        planned, last_item_id = 0, 0
        while True:
            with self.database.transaction() as session:
                if not self._hold(session, run, target):
                    return planned
                items = [_PendingItem(*row) for row in session.execute(_items_to_do(target, last_item_id))]
                self._record_embeddings(session, run, target, list(_batches(items)))
            planned += len(items)
            if len(items) < _PAGE:
                return planned
            last_item_id = items[-1].item_id

    def _hold(self, session: Session, run: Run, target: EmbeddedDataset) -> bool:
        """Keep the embedded dataset until this transaction ends; False where it was removed.

        Before the job: whoever removes it asks for a plan after that, and would wait for us as we for them.
        """
        there = session.get(EmbeddedDataset, target.embedded_dataset_id, with_for_update=_KEPT)
        self.jobs.fence(session, run)
        return there is not None

    def _record_embeddings(
        self,
        session: Session,
        run: Run,
        target: EmbeddedDataset,
        batches: Sequence[Sequence[_PendingItem]],
    ) -> None:
        """All of a page at once: a job for each batch, then a row for each item."""
        if not batches:
            return
        contracts = [_embed(target, batch) for batch in batches]
        job_ids = self.outbox.record_many(session, contracts, owner_id=target.owner_id, planned_by=run.job_id)
        rows = [
            _embedding_row(target, item, job_id)
            for batch, job_id in zip(batches, job_ids, strict=True)
            for item in batch
        ]
        statement = insert(ItemEmbedding).values(rows)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["embedded_dataset_id", "item_id"],
                set_=_replaced(statement, "content_hash", "state", "job_id", "chunk_count"),
            )
        )

    def _plan_removals(self, run: Run, target: EmbeddedDataset) -> None:
        gone = select(ItemEmbedding.item_id).where(
            ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id,
            ~exists().where(
                Item.item_id == ItemEmbedding.item_id, Item.dataset_id == target.source_dataset_id
            ),
        )
        last_item_id = 0
        while True:
            with self.database.transaction() as session:
                self.jobs.fence(session, run)
                page = gone.where(ItemEmbedding.item_id > last_item_id)
                item_ids = tuple(session.scalars(page.order_by(ItemEmbedding.item_id).limit(_PAGE)))
                if item_ids:
                    work = DeleteItemVectors(target.embedded_dataset_id, item_ids)
                    self.outbox.record(session, work, owner_id=target.owner_id)
            if len(item_ids) < _PAGE:
                return
            last_item_id = item_ids[-1]


def _replaced(statement: Insert, *names: str) -> dict[str, Any]:
    return {name: statement.excluded[name] for name in names} | {"error_code": None, "error_message": None}


def _files_to_do(transform: CollectionTransform, after: int) -> Select[tuple[int, int]]:
    return (
        select(File.file_id, File.version)
        .where(
            File.collection_id == transform.collection_id,
            File.file_id > after,
            ~settled_file(transform),
        )
        .order_by(File.file_id)
        .limit(_PAGE)
    )


def _items_to_do(target: EmbeddedDataset, after: int) -> Select[tuple[int, str, int]]:
    return (
        select(Item.item_id, Item.content_hash, Item.chunk_count)
        .where(
            Item.dataset_id == target.source_dataset_id,
            Item.item_id > after,
            ~settled_item(target),
        )
        .order_by(Item.item_id)
        .limit(_PAGE)
    )


def _embed(target: EmbeddedDataset, batch: Sequence[_PendingItem]) -> EmbedItems:
    name = content_hash(*(f"{item.item_id}:{item.content_hash}" for item in batch))
    return EmbedItems(target.embedded_dataset_id, name, tuple(item.item_id for item in batch))


def _embedding_row(target: EmbeddedDataset, item: _PendingItem, job_id: UUID) -> dict[str, object]:
    return {
        "embedded_dataset_id": target.embedded_dataset_id,
        "item_id": item.item_id,
        "content_hash": item.content_hash,
        "state": "pending",
        "job_id": job_id,
        "chunk_count": item.chunk_count,
    }


def _batches(items: Iterable[_PendingItem]) -> Iterator[list[_PendingItem]]:
    batch: list[_PendingItem] = []
    chunks = 0
    for item in items:
        batch.append(item)
        chunks += item.chunk_count
        if chunks >= _BATCH_CHUNKS or len(batch) >= _BATCH_ITEMS:
            yield batch
            batch, chunks = [], 0
    if batch:
        yield batch
