from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import delete, select

from app.container import Container
from app.errors import InvalidInputError, JobCancelledError, UnavailableError
from app.jobs.contracts import BuildVisualization, DeleteObjects
from app.pipeline.projection.base import Projection, ProjectionInput
from app.security.principal import Principal
from app.services.jobs import Run
from app.storage.postgres.tables import EmbeddedDataset, Job, Visualization
from tasks import collections as collections_pool
from tests.support.domain import World

ADA = Principal("ada", "Ada")


class Runner:
    """Draws three points on a line; what happens meanwhile is up to the test."""

    def __init__(self, meanwhile: Callable[..., None]) -> None:
        self._meanwhile = meanwhile

    def run(self, job: ProjectionInput, **ports: Any) -> Projection:
        self._meanwhile(**ports)
        points = np.zeros((len(np.load(job.vectors_path)), 2), dtype=np.float32)
        none = np.full(len(points), -1, dtype=np.int32)
        return Projection(points, none, np.zeros(len(points), dtype=np.float32), none, (), {}, {})


class Maps:
    """An embedded dataset with three vectors and a map of it to build."""

    def __init__(self, container: Container, world: World) -> None:
        self.container = container
        dataset = world.dataset()
        target = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
        with container.database.transaction() as session:
            self.index = session.get_one(EmbeddedDataset, target).collection_name
        made = container.services.visualization_transforms.create(ADA, title="m", embedded_dataset_id=target)
        assert made.last_visualization_id is not None
        self.visualization_id, self.transform = made.last_visualization_id, made.visualization_transform_id

    def fill(self) -> None:
        self.container.vectors.ensure_index(self.index, 3)
        vectors = np.eye(3, dtype=np.float32)
        payloads = [{"item_id": n, "owner_id": "ada"} for n in range(3)]
        self.container.vectors.upsert(self.index, [uuid4() for _ in range(3)], vectors, payloads)

    def build(self, meanwhile: Callable[..., None] = lambda **_: None) -> Run:
        with self.container.database.transaction() as session:
            job_id = session.scalars(select(Job.job_id).where(Job.kind == BuildVisualization.kind)).one()
        run = self.container.services.jobs.begin(job_id, "test")
        assert run is not None
        runner: Any = Runner(meanwhile)
        runs = replace(self.container.services.visualization_runs, runner=lambda: runner)
        runs.build(run, BuildVisualization(self.visualization_id, self.transform))
        return run

    def visualization(self) -> Visualization:
        with self.container.database.transaction() as session:
            return session.get_one(Visualization, self.visualization_id)

    def job(self) -> Job:
        with self.container.database.transaction() as session:
            return session.scalars(select(Job).where(Job.kind == BuildVisualization.kind)).one()

    def sweep(self) -> None:
        """Carry out the deletions of objects that wait."""
        with self.container.database.transaction() as session:
            waiting = session.scalars(select(Job.job_id).where(Job.kind == DeleteObjects.kind)).all()
        for job_id in waiting:
            run = self.container.services.jobs.begin(job_id, "test")
            assert run is not None
            collections_pool.delete_objects(self.container.services, run, run.contract)

    def objects(self) -> list[str]:
        return [blob.key for blob in self.container.blobs.list("visualizations/")]


@pytest.fixture
def maps(container: Container, world: World) -> Maps:
    return Maps(container, world)


def test_a_map_is_stored_with_its_points(maps: Maps):
    maps.fill()
    maps.build()
    done = maps.visualization()
    assert (done.status, done.point_count, maps.job().state) == ("completed", 3, "succeeded")
    assert maps.objects() == [done.points_key]


def test_a_map_of_nothing_says_that_there_is_nothing(maps: Maps):
    with pytest.raises(InvalidInputError, match="holds no vectors yet"):
        maps.build()


def test_a_run_for_a_deleted_map_ends_without_a_failure(maps: Maps):
    with maps.container.database.transaction() as session:
        session.execute(delete(Visualization))
    maps.build()
    assert (maps.job().state, maps.job().outcome) == ("succeeded", {"skipped": "the map was deleted"})


def test_a_run_that_lost_its_job_leaves_no_object_behind(maps: Maps):
    maps.fill()

    def cancel(**_: Any) -> None:
        maps.container.services.cancelling.job(ADA, maps.job().job_id)

    with pytest.raises(JobCancelledError):
        maps.build(cancel)
    maps.sweep()
    assert maps.objects() == []


def test_a_moment_without_postgres_does_not_cost_the_map(maps: Maps, monkeypatch: pytest.MonkeyPatch):
    maps.fill()
    services = maps.container.services

    def away(*_: Any) -> None:
        raise UnavailableError("Postgres: the server is restarting")

    def blink(on_progress: Callable[[str, float], None], should_cancel: Callable[[], bool], **_: Any) -> None:
        with monkeypatch.context() as moment:
            moment.setattr(type(services.jobs), "fence", away)
            moment.setattr(type(services.jobs), "is_current", away)
            on_progress("layout", 1.0)
            assert not should_cancel()

    monkeypatch.setattr("app.services.visualization_runs._REPORT_EVERY_SECONDS", 0.0)
    maps.build(blink)
    assert maps.visualization().status == "completed"
