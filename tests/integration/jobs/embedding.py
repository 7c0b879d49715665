"""A dataset whose embedding jobs are carried out by hand, with a model and a store that can be disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import InputRefusedError, UnavailableError
from app.jobs.contracts import PlanDatasetTransform
from app.pipeline.embedding.base import Embeddings, Purpose
from app.storage.postgres.tables import EmbeddedDataset, ItemEmbedding, Job
from app.storage.qdrant import VectorStore
from tasks import datasets as pool
from tests.support.domain import World


@dataclass
class Provider:
    """An embedder that remembers what it was paid for and refuses texts that say "bad"."""

    paid: list[str] = field(default_factory=list)
    calls: int = 0
    before: Callable[[int], None] = lambda _: None
    dimensions: int = 3

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        assert purpose == "document"
        self.calls += 1
        self.before(self.calls)
        if any(text.startswith("bad") for text in texts):
            raise InputRefusedError("The provider openai refused the request (400): text is not allowed")
        self.paid += texts
        vectors = np.zeros((len(texts), 3), dtype=np.float32)
        vectors[:, 0] = 1
        return Embeddings(vectors=vectors)


class Flaky(VectorStore):
    """A vector store whose writes fail a number of times; `before` happens before each."""

    failures = 0
    before: Callable[[], None] = staticmethod(lambda: None)

    def upsert(self, *args, **kwargs) -> None:
        self.before()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("Qdrant: connection refused")
        super().upsert(*args, **kwargs)


class Work:
    """A dataset with one embedded dataset whose jobs are run by hand."""

    def __init__(self, container: Container, world: World) -> None:
        self.container, self.world, self.provider = container, world, Provider()
        self.dataset = world.dataset()
        self.transform = world.dataset_transform(self.dataset)
        self.target = world.embedded_dataset(self.transform, self.dataset, world.embedder())
        with container.database.transaction() as session:
            self.index = session.get_one(EmbeddedDataset, self.target).collection_name
        self.store = Flaky(container.vectors.options)
        services = container.services
        self.runs = replace(
            services.embedding_runs,
            embedder=lambda _owner, _id: self.provider,
            vectors=self.store,
            write_waits_seconds=(0.0, 0.0),
        )
        vars(services)["embedding_runs"] = self.runs

    def plan(self) -> None:
        with self.container.database.transaction() as session:
            self.container.outbox.record(session, PlanDatasetTransform(self.transform), owner_id="ada")

    def step(self) -> str | None:
        """Carry out the oldest waiting job; its kind."""
        with self.container.database.transaction() as session:
            query = select(Job).where(Job.state.in_(("pending", "retrying")), ~Job.held)
            job = session.scalars(query.order_by(Job.created_at).limit(1)).one_or_none()
        if job is None:
            return None
        services = self.container.services
        run = services.jobs.begin(job.job_id, "test")
        assert run is not None
        try:
            pool.handlers.entries[job.kind].function(services, run, run.contract)
        except UnavailableError as error:
            services.jobs.retry_later(run, error, delay_seconds=0)
            raise
        return job.kind

    def all(self) -> None:
        self.plan()
        for _ in range(50):
            if self.step() is None:
                return
        pytest.fail("the work never ends")

    def states(self) -> dict[int, tuple[str, str | None]]:
        with self.container.database.transaction() as session:
            rows = session.scalars(select(ItemEmbedding))
            return {row.item_id: (row.state, row.error_message) for row in rows}

    def vectors(self) -> int:
        return self.store.count(self.index)

    def wait_for_vectors(self, number: int) -> None:
        """Until the part that is being written beside the run is there."""
        until = time.monotonic() + 40
        while self.vectors() < number:
            assert time.monotonic() < until, "the part is not written"
