"""A pool of workers in this process on a real stream and database; the test gives its one handler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import dramatiq
import pytest
from sqlalchemy import select

from app.config import Settings
from app.container import Container, Services, build
from app.jobs.contracts import ExtractFile, PlanCollectionTransform
from app.jobs.policy import Policy
from app.services.jobs import Run
from app.storage.postgres.tables import FileExtraction, Job
from brokers.jetstream import dead_letter
from tasks import collections as collections_pool
from tasks.actor import Handlers
from tasks.worker import prepare
from tests.support.domain import Recorder, World

Extract = Callable[[Services, Run, ExtractFile], None]


@pytest.fixture
def container(
    stack_env: dict[str, str], nats_url: str, migrated_url: str, recorder: Recorder
) -> Iterator[Container]:
    settings = Settings.from_env(
        stack_env
        | {
            "DATABASE_URL": migrated_url,
            "NATS_URL": nats_url,
            "RETRY_BACKOFF_SECS": "0.1,0.1,0.1,0.1",
            "RECONCILE_INTERVAL_SECS": "0",
        }
    )
    made = build(settings)
    made.apply_topology(dry_run=False)
    vars(made)["feed"] = recorder
    yield made
    made.close()
    made.broker.close()


@dataclass
class Pool:
    """One job, extract_file of the only file, and the workers that run it."""

    container: Container
    transform: int
    file_id: int

    def start(self, extract: Extract, policy: Policy | None = None) -> dramatiq.Worker:
        handlers = Handlers()
        handlers.handles(PlanCollectionTransform)(collections_pool.plan)
        handlers.handles(ExtractFile)(extract)
        if policy is not None:
            self.container.policies._of[ExtractFile.kind] = policy
        prepare(self.container, "collections", handlers)
        worker = dramatiq.Worker(self.container.broker, worker_threads=2, worker_timeout=100)
        # What the dramatiq command does after its fork; the clock of the time limits starts there.
        self.container.broker.emit_after("process_boot")
        worker.start()
        return worker

    def ask(self) -> None:
        """Record and publish the plan, which makes the one job."""
        with self.container.database.transaction() as session:
            self.container.outbox.record(session, PlanCollectionTransform(self.transform), owner_id="ada")

    def plan(self) -> UUID:
        """The one job, planned here because no worker runs."""
        self.ask()
        services = self.container.services
        with self.container.database.transaction() as session:
            run = services.jobs.begin(session.scalars(select(Job.job_id)).one(), "test")
        assert run is not None
        services.planning.plan_collection_transform(run, self.transform)
        return self.job().job_id

    def job(self) -> Job:
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            with self.container.database.transaction() as session:
                job = session.scalars(select(Job).where(Job.kind == ExtractFile.kind)).one_or_none()
            if job is not None:
                return job
            time.sleep(0.02)
        raise AssertionError("the plan made no job")

    def extraction(self) -> FileExtraction:
        with self.container.database.transaction() as session:
            return session.scalars(select(FileExtraction)).one()

    def wait_for(self, state: str, seconds: float = 40) -> Job:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.job()
            if job.state == state:
                return job
            time.sleep(0.02)
        raise AssertionError(f"the job is {job.state} ({job.error_message}), not {state}")

    def rest(self, seconds: float = 40) -> None:
        """Wait until the stream holds nothing to do."""
        self.container.broker.join(ExtractFile.queue, timeout=int(seconds * 1000))

    def dead_letters(self) -> list[dead_letter.DeadLetter]:
        return dead_letter.list_dead(self.container.broker)


@pytest.fixture
def pool(container: Container, world: World) -> Pool:
    collection = world.collection()
    transform = world.collection_transform(collection, world.dataset())
    return Pool(container, transform, world.file(collection))


@pytest.fixture
def start(pool: Pool) -> Iterator[Callable[..., UUID]]:
    """Start the pool with a handler, then record and publish the job; returns its id."""
    workers: list[dramatiq.Worker] = []

    def begin(extract: Extract, **options: Any) -> UUID:
        workers.append(pool.start(extract, **options))
        pool.ask()
        return pool.job().job_id

    yield begin
    for worker in workers:
        worker.stop()
