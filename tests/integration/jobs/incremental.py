"""A whole pipeline over real stores whose jobs are carried out by hand, and a look at whether they agree."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import ColumnElement, Text, cast, func, literal_column, select, true

from app.container import Container
from app.errors import ExplorerError, NotFoundError
from app.pipeline.document import Document
from app.pipeline.embedding.base import Embedder, Embeddings, Purpose
from app.pipeline.extraction.base import SourceFile
from app.security.principal import Principal
from app.services.items import PushedChunk, PushedItem
from app.services.search import Query
from app.services.uploads import Upload
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    ChunkRow,
    EmbeddedDataset,
    EmbedderRow,
    File,
    Item,
    ItemEmbedding,
    Job,
)
from tasks import collections, datasets
from tasks.scope import Scope
from tasks.watch import Watch
from tests.support.domain import World

ADA = Principal("ada", "Ada")
HANDLERS = {**collections.handlers.entries, **datasets.handlers.entries}

Meanwhile = deque[Callable[[], None]]


@dataclass
class StubProvider:
    """Texts that share words are near each other; remembers what it embedded, and what is to happen first."""

    embedded: list[tuple[int, str]] = field(default_factory=list)  # dimensions, text
    meanwhile: Meanwhile = field(default_factory=deque)  # each happens before one answer

    def vectors(self, texts: Sequence[str], dimensions: int, purpose: Purpose) -> Embeddings:
        if purpose == "document":
            if self.meanwhile:
                self.meanwhile.popleft()()
            self.embedded += [(dimensions, text) for text in texts]
        return Embeddings(np.stack([_vector(text, dimensions) for text in texts]), split=0, truncated=0)


@dataclass(frozen=True)
class StubEmbedder:
    provider: StubProvider
    dimensions: int

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        return self.provider.vectors(texts, self.dimensions, purpose)


def _vector(text: str, dimensions: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    total = np.full(dimensions, 0.01, dtype=np.float32)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        total += np.random.default_rng(seed).standard_normal(dimensions).astype(np.float32)
    return total / np.linalg.norm(total)


class Pipeline:
    """A collection, a dataset and both transforms. `reading` holds what happens while a file is read."""

    def __init__(self, container: Container, world: World, *dimensions: int) -> None:
        self.container, self.services = container, container.services
        self.provider, self.reading = StubProvider(), Meanwhile()
        self._put_stubs()
        self.embedders = [world.embedder(each) for each in dimensions or (8,)]
        self.collection = self.services.collections.create(ADA, title="Papers").collection_id
        self.dataset = self.services.datasets.create(ADA, title="Texts").dataset_id
        self.files_transform = self.services.collection_transforms.create(
            ADA, title="read", collection_id=self.collection, dataset_id=self.dataset, chunk_size=64
        ).collection_transform_id
        self.items_transform = self.services.dataset_transforms.create(
            ADA, title="embed", source_dataset_id=self.dataset, embedder_ids=self.embedders
        ).dataset_transform_id
        self.indexes = {row.collection_name for row in self.targets()}

    def upload(self, name: str, text: str) -> int:
        uploads = [Upload(name, BytesIO(text.encode()))]
        (done,) = self.services.files.upload(ADA, self.collection, uploads).completed
        return done.file_id

    def delete_file(self, file_id: int) -> None:
        self.services.files.delete(ADA, file_id)

    def push(self, title: str, *texts: str) -> int:
        chunks = [PushedChunk(text) for text in texts]
        (item_id,) = self.services.items.push(ADA, self.dataset, [PushedItem(title, chunks)]).item_ids
        return item_id

    def delete_item(self, item_id: int) -> None:
        self.services.items.delete(ADA, item_id)

    def use(self, *embedder_ids: int) -> None:
        self.services.dataset_transforms.update(
            ADA, self.items_transform, {"embedder_ids": embedder_ids or self.embedders}
        )
        self.indexes |= {row.collection_name for row in self.targets()}

    def enable_files(self, is_enabled: bool) -> None:
        self.services.collection_transforms.update(ADA, self.files_transform, {"is_enabled": is_enabled})

    def enable_items(self, is_enabled: bool) -> None:
        self.services.dataset_transforms.update(ADA, self.items_transform, {"is_enabled": is_enabled})

    def chunk_by(self, size: int) -> None:
        self.services.collection_transforms.update(ADA, self.files_transform, {"chunk_size": size})

    def retry(self) -> int:
        return self.services.dataset_transforms.retry_failed(ADA, self.items_transform)

    def retry_files(self) -> int:
        return self.services.collection_transforms.retry_failed(ADA, self.files_transform)

    def work(self) -> list[str]:
        """Carry out all jobs that wait, oldest first, and a failed attempt again at once; their kinds."""
        kinds = []
        while job := self._next(Job.state.in_(("pending", "retrying")), ~Job.held):
            kinds.append(job.kind)
            self.carry_out(job)
        return kinds

    def carry_out(self, job: Job) -> None:
        run = Scope(self.container, "test", Watch(lambda: self.container.database)).wrap(
            job.kind, HANDLERS[job.kind].function
        )
        with suppress(ExplorerError):  # the job's row says what became of it
            run(job_id=str(job.job_id), publication=job.publication)

    def work_until(self, kind: str) -> Job:
        """Carry out what waits until a job of this kind is next, and return that."""
        while job := self._next(Job.state == "pending", ~Job.held):
            if job.kind == kind:
                return job
            self.carry_out(job)
        raise AssertionError(f"no {kind} job came")

    def moments(self, which: str) -> Meanwhile:
        """What happens while a file is read ("reading") or while texts are embedded."""
        return self.reading if which == "reading" else self.provider.meanwhile

    def jobs(self, *kinds: str) -> list[Job]:
        """The jobs of these kinds (of all, if none is named), oldest first."""
        which = Job.kind.in_(kinds) if kinds else true()
        with self.container.database.transaction() as session:
            return list(session.scalars(select(Job).where(which).order_by(Job.created_at, Job.job_id)))

    def embeddings(self) -> list[ItemEmbedding]:
        with self.container.database.transaction() as session:
            return list(session.scalars(select(ItemEmbedding)))

    def chunk_count(self) -> int:
        with self.container.database.transaction() as session:
            return session.scalar(select(func.count()).select_from(ChunkRow)) or 0

    def versions(self, title: str) -> list[tuple[UUID, str]]:
        """The chunks of an item, each with the transaction that wrote its row."""
        xmin = cast(literal_column("chunks.xmin"), Text)
        rows = select(ChunkRow.chunk_id, xmin).join(Item, Item.item_id == ChunkRow.item_id)
        with self.container.database.transaction() as session:
            found = session.execute(rows.where(Item.title == title).order_by(ChunkRow.position))
            return [(key, str(version)) for key, version in found]

    def embedded(self) -> list[str]:
        """The texts that were embedded since the last call, in order."""
        texts = [text for _, text in self.provider.embedded]
        self.provider.embedded.clear()
        return texts

    def targets(self) -> Sequence[EmbeddedDataset]:
        with self.container.database.transaction() as session:
            return session.scalars(
                select(EmbeddedDataset).order_by(EmbeddedDataset.embedded_dataset_id)
            ).all()

    def found(self, query: str, *, target: int = 0) -> list[str]:
        """The passages that a search finds in one of the embedded datasets, best first."""
        key = self.targets()[target].embedded_dataset_id
        (block,) = self.services.search.search(ADA, Query(query, [key], score_threshold=-1.0)).results
        assert block.error is None, block.error
        return [match.text for match in block.matches]

    def check(self) -> None:
        """All is done, and Postgres, the vector indexes and the object store tell the same."""
        with self.container.database.transaction() as session:
            assert list(session.scalars(select(Job.kind).where(Job.state.in_(ACTIVE_STATES)))) == []
            objects = set(session.scalars(select(File.object_key)))
        assert {blob.key for blob in self.container.blobs.list("files/")} == objects
        targets = self.targets()
        for target in targets:
            self._check_index(target)
        for name in self.indexes - {target.collection_name for target in targets}:
            with pytest.raises(NotFoundError):
                self.container.vectors.count(name)

    def _check_index(self, target: EmbeddedDataset) -> None:
        with self.container.database.transaction() as session:
            items = session.scalars(select(Item).where(Item.dataset_id == target.source_dataset_id)).all()
            in_items = ChunkRow.item_id.in_([item.item_id for item in items])
            chunks = set(session.scalars(select(ChunkRow.chunk_id).where(in_items)))
            done = ItemEmbedding.embedded_dataset_id == target.embedded_dataset_id
            embeddings = session.scalars(select(ItemEmbedding).where(done)).all()
        assert self.points(target.collection_name) == chunks
        assert {(row.item_id, row.content_hash, row.state) for row in embeddings} == {
            (item.item_id, item.content_hash, "succeeded") for item in items
        }

    def points(self, index: str) -> set[UUID]:
        """The ids of all vectors; none where the index was not made yet."""
        try:
            return {key for ids, _, _ in self.container.vectors.stream_vectors(index) for key in ids}
        except NotFoundError:
            return set()

    def _next(self, *which: ColumnElement[bool]) -> Job | None:
        with self.container.database.transaction() as session:
            return session.scalars(
                select(Job).where(*which).order_by(Job.created_at, Job.job_id).limit(1)
            ).one_or_none()

    def _put_stubs(self) -> None:
        built: dict[str, Any] = vars(self.services)
        reads = self.services.extraction_runs

        def read(source: SourceFile, config: Mapping[str, Any]) -> Document:
            document = reads.read(source, config)
            if self.reading:
                self.reading.popleft()()
            return document

        built["extraction_runs"] = replace(reads, read=read)
        built["embedding_runs"] = replace(self.services.embedding_runs, embedder=self._client)
        built["search"] = replace(self.services.search, embedder=self._client)

    def _client(self, _owner_id: str, embedder_id: int) -> Embedder:
        with self.container.database.transaction() as session:
            dimensions = session.get_one(EmbedderRow, embedder_id).dimensions
        return StubEmbedder(self.provider, dimensions)
