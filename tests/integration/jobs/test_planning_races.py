"""An embedded dataset is removed while a plan for it runs: both get to their end."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from app.container import Container
from app.jobs.contracts import PlanDatasetTransform
from app.services.jobs import Run
from app.services.planning import Planning
from app.storage.postgres.tables import EmbeddedDataset, ItemEmbedding, Job
from tests.integration.jobs.incremental import Pipeline
from tests.integration.jobs.test_lock_order import wait_until_somebody_waits
from tests.support.domain import World


@pytest.fixture
def pipeline(container: Container, world: World) -> Pipeline:
    """One text, two embedders; the plan for both is recorded."""
    made = Pipeline(container, world, 3, 5)
    made.push("item", "some text")
    return made


def plan(pipeline: Pipeline) -> Job:
    run = begin(pipeline)
    pipeline.services.planning.plan_dataset_transform(run, pipeline.items_transform)
    return next(job for job in pipeline.jobs(PlanDatasetTransform.kind) if job.job_id == run.job_id)


def begin(pipeline: Pipeline) -> Run:
    job = pipeline.work_until(PlanDatasetTransform.kind)
    run = pipeline.services.jobs.begin(job.job_id, "test", publication=job.publication)
    assert run is not None
    return run


def test_an_embedded_dataset_removed_between_the_pages_of_a_plan_ends_only_its_part(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    kept, removed = pipeline.embedders
    plan_removals = Planning._plan_removals

    def remove_first(self: Planning, run: Run, target: EmbeddedDataset) -> None:
        plan_removals(self, run, target)
        if target.embedder_id == removed:
            pipeline.use(kept)

    monkeypatch.setattr(Planning, "_plan_removals", remove_first)
    assert plan(pipeline).state == "succeeded"
    assert [row.item_id for row in pipeline.embeddings()] != []
    monkeypatch.undo()
    pipeline.work()
    pipeline.check()


def test_an_embedded_dataset_removed_within_a_page_of_a_plan_waits_for_that_page(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    kept, removed = pipeline.embedders
    record = Planning._record_embeddings
    removing: list[Future[None]] = []

    def meanwhile(self: Planning, session: Any, run: Run, target: EmbeddedDataset, batches: Any) -> None:
        if target.embedder_id == removed:
            removing.append(pool.submit(pipeline.use, kept))
            wait_until_somebody_waits(self.database)
        record(self, session, run, target, batches)

    monkeypatch.setattr(Planning, "_record_embeddings", meanwhile)
    with ThreadPoolExecutor(1) as pool:
        assert plan(pipeline).state == "succeeded"
        removing[0].result(30)
    monkeypatch.undo()
    pipeline.work()
    pipeline.check()
    with pipeline.container.database.transaction() as session:
        targets = set(session.scalars(select(ItemEmbedding.embedded_dataset_id)))
    assert targets == {row.embedded_dataset_id for row in pipeline.targets()}
