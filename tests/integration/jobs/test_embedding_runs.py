from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from app.container import Container
from app.errors import NotFoundError
from app.jobs.contracts import Contract, PlanDatasetTransform
from app.pipeline.embedding.base import Embedder, Embeddings, Purpose
from app.services.jobs import Run
from app.storage.postgres.tables import ChunkRow, EmbeddedDataset, Item, ItemEmbedding, Job
from tasks import datasets as pool
from tests.support.domain import World


class SlowEmbedder:
    """An embedder during whose first call something happens."""

    dimensions = 3

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile: Callable[[], None] | None = meanwhile

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        assert purpose == "document"
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        vectors = np.zeros((len(texts), 3), dtype=np.float32)
        vectors[:, 0] = 1
        return Embeddings(vectors=vectors, split=0, truncated=0)


class Embedding:
    """A dataset with one embedded dataset; its jobs are run by hand."""

    def __init__(self, container: Container, world: World) -> None:
        self.container, self.world = container, world
        self.dataset = world.dataset()
        self.transform = world.dataset_transform(self.dataset)
        self.target = world.embedded_dataset(self.transform, self.dataset, world.embedder())
        with container.database.transaction() as session:
            self.index = session.get_one(EmbeddedDataset, self.target).collection_name

    def work(
        self, meanwhile: Callable[[], None] = lambda: None, *, opening: Callable[[], None] = lambda: None
    ) -> None:
        """Plan, then carry out all that waits.

        `opening` happens when a run opens its embedder, `meanwhile` while the first text is embedded.
        """
        self._ask()
        client = SlowEmbedder(meanwhile)

        def opened(_owner: str, _embedder_id: int) -> Embedder:
            opening()
            return client

        services = self.container.services
        vars(services)["embedding_runs"] = replace(services.embedding_runs, embedder=opened)
        while job := self._waiting():
            run = services.jobs.begin(job.job_id, "test")
            assert run is not None
            pool.handlers.entries[job.kind].function(services, run, run.contract)

    def delete_item(self, item_id: int) -> None:
        with self.container.database.transaction() as session:
            session.execute(delete(Item).where(Item.item_id == item_id))

    def chunk_ids(self) -> set[object]:
        with self.container.database.transaction() as session:
            return set(session.scalars(select(ChunkRow.chunk_id)))

    def vector_ids(self) -> set[object]:
        return {point.id for point in self.container.vectors.scroll(self.index).points}

    def begin(self, contract: Contract) -> Run:
        with self.container.database.transaction() as session:
            job_id = self.container.outbox.record(session, contract, owner_id="ada")
        run = self.container.services.jobs.begin(job_id, "test")
        assert run is not None
        return run

    def _ask(self) -> None:
        with self.container.database.transaction() as session:
            self.container.outbox.record(session, PlanDatasetTransform(self.transform), owner_id="ada")

    def _waiting(self) -> Job | None:
        with self.container.database.transaction() as session:
            return session.scalars(
                select(Job).where(Job.state == "pending").order_by(Job.created_at).limit(1)
            ).one_or_none()


@pytest.fixture
def embedding(container: Container, world: World) -> Embedding:
    return Embedding(container, world)


def test_every_chunk_gets_its_vector(embedding: Embedding):
    embedding.world.item(embedding.dataset)
    embedding.world.item(embedding.dataset)
    embedding.work()
    assert embedding.vector_ids() == embedding.chunk_ids()
    assert len(embedding.vector_ids()) == 4


def test_an_item_deleted_while_it_is_embedded_leaves_no_vectors(embedding: Embedding):
    doomed = embedding.world.item(embedding.dataset)
    embedding.world.item(embedding.dataset)

    def forget() -> None:
        embedding.delete_item(doomed)
        embedding.work()  # another worker plans and deletes

    embedding.work(forget)
    assert embedding.vector_ids() == embedding.chunk_ids()
    with embedding.container.database.transaction() as session:
        assert doomed not in set(session.scalars(select(ItemEmbedding.item_id)))


def test_an_item_edited_while_it_is_embedded_keeps_only_its_new_vectors(embedding: Embedding):
    item_id = embedding.world.item(embedding.dataset, ["one", "two"])

    def edit() -> None:
        with embedding.container.database.transaction() as session:
            session.execute(delete(ChunkRow).where(ChunkRow.item_id == item_id, ChunkRow.position == 1))
            session.execute(update(Item).where(Item.item_id == item_id).values(content_hash="new"))
        embedding.work()

    embedding.work(edit)
    assert embedding.vector_ids() == embedding.chunk_ids()
    assert len(embedding.vector_ids()) == 1


@pytest.mark.parametrize("moment", ["opening", "meanwhile"])
def test_an_index_dropped_while_it_is_filled_does_not_come_back(embedding: Embedding, moment: str):
    embedding.world.item(embedding.dataset)

    def forget() -> None:
        with embedding.container.database.transaction() as session:
            session.execute(delete(EmbeddedDataset))
        embedding.container.vectors.drop(embedding.index)

    embedding.work(**{moment: forget})
    with pytest.raises(NotFoundError):
        embedding.container.vectors.count(embedding.index)


def test_a_job_of_a_deleted_embedded_dataset_ends_without_a_failure(embedding: Embedding):
    embedding.world.item(embedding.dataset)
    services = embedding.container.services
    services.planning.plan_dataset_transform(
        embedding.begin(PlanDatasetTransform(embedding.transform)), embedding.transform
    )
    with embedding.container.database.transaction() as session:
        session.execute(delete(EmbeddedDataset))
    embedding.work()
    with embedding.container.database.transaction() as session:
        job = session.scalars(select(Job).where(Job.kind == "embed_items")).one()
        assert (job.state, job.outcome) == ("succeeded", {"skipped": "the embedded dataset was deleted"})
