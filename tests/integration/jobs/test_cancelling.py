"""What is cancelled stays so until somebody asks again, whatever happens at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import func, select, update

from app.container import Container
from app.errors import ConflictError
from app.jobs.contracts import PlanDatasetTransform
from app.jobs.dispatch import Dispatcher
from app.jobs.outbox import Envelope
from app.jobs.sweeps import Sweeps
from app.services.cancelling import Cancelled
from app.services.jobs import Run
from app.services.planning import Planning
from app.storage.postgres.tables import (
    ACTIVE_STATES,
    CollectionTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    Item,
    Job,
)
from tests.integration.jobs.incremental import ADA, Pipeline
from tests.integration.jobs.test_lock_order import wait_until_somebody_waits
from tests.support.domain import Recorder, World


@pytest.fixture
def pipeline(container: Container, world: World) -> Pipeline:
    made = Pipeline(container, world)
    made.work()
    return made


def cancel_files(pipeline: Pipeline) -> Cancelled:
    return pipeline.services.cancelling.collection_transform(ADA, pipeline.files_transform)


def cancel_items(pipeline: Pipeline) -> Cancelled:
    return pipeline.services.cancelling.dataset_transform(ADA, pipeline.items_transform)


def files(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    """State and code of every file's extraction, by file."""
    with pipeline.container.database.transaction() as session:
        rows = session.scalars(select(FileExtraction).order_by(FileExtraction.file_id))
        return [(row.state, row.error_code) for row in rows]


def items(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    rows = sorted(pipeline.embeddings(), key=lambda row: row.item_id)
    return [(row.state, row.error_code) for row in rows]


def active(pipeline: Pipeline) -> list[str]:
    with pipeline.container.database.transaction() as session:
        return list(session.scalars(select(Job.kind).where(Job.state.in_(ACTIVE_STATES))))


def begin(pipeline: Pipeline, job: Job) -> Run:
    run = pipeline.services.jobs.begin(job.job_id, "w1", publication=job.publication)
    assert run is not None
    return run


def while_it_waits(pipeline: Pipeline, pool: ThreadPoolExecutor, what: Callable[[], Any]) -> Future[Any]:
    """Begin something that has to wait for a lock of ours, and go on once it does."""
    waiting = pool.submit(what)
    wait_until_somebody_waits(pipeline.container.database)
    return waiting


def void(_: object) -> None:
    """What a moment's happening returns."""


CANCELLED = ("failed", "cancelled")


def test_cancelled_files_are_read_only_once_somebody_retries(pipeline: Pipeline, recorder: Recorder):
    for name in ("a.txt", "b.txt"):
        pipeline.upload(name, f"text of {name}")
    begin(pipeline, pipeline.work_until("extract_file"))
    assert cancel_files(pipeline) == Cancelled(waiting=1, running=1, affected=2)
    told = recorder.told[-1]
    assert (told.transform_id, told.status) == (pipeline.files_transform, "failed")
    pipeline.services.collection_transforms.trigger(ADA, pipeline.files_transform)
    assert "extract_file" not in pipeline.work()
    assert files(pipeline) == [CANCELLED, CANCELLED]
    assert cancel_files(pipeline) == Cancelled(0, 0, 0)
    assert pipeline.retry_files() == 2
    pipeline.work()
    pipeline.check()


def test_files_that_no_plan_has_reached_are_cancelled_too_and_later_ones_are_not(pipeline: Pipeline):
    pipeline.upload("a.txt", "an old text")
    pipeline.work()
    pipeline.upload("a.txt", "a newer text")
    pipeline.upload("b.txt", "another text")
    assert cancel_files(pipeline) == Cancelled(waiting=1, running=0, affected=2)
    pipeline.upload("c.txt", "a late text")
    pipeline.upload("b.txt", "another text, changed")
    pipeline.work()
    assert files(pipeline) == [CANCELLED, ("succeeded", None), ("succeeded", None)]
    pipeline.retry_files()
    pipeline.work()
    pipeline.check()


def test_cancelled_items_are_embedded_only_once_somebody_retries_and_deleted_ones_still_go(
    pipeline: Pipeline,
):
    gone = pipeline.push("gone", "it will be deleted")
    pipeline.work()
    pipeline.push("planned", "its job waits")
    pipeline.work_until("embed_items")
    pipeline.push("unplanned", "no plan has seen it")
    pipeline.delete_item(gone)
    assert cancel_items(pipeline) == Cancelled(waiting=1, running=0, affected=2)
    pipeline.services.dataset_transforms.trigger(ADA, pipeline.items_transform)
    assert set(pipeline.work()) == {"plan_dataset_transform", "delete_item_vectors"}
    assert items(pipeline) == [CANCELLED, CANCELLED]
    assert pipeline.points(pipeline.targets()[0].collection_name) == set()
    assert pipeline.retry() == 2
    pipeline.work()
    pipeline.check()


def test_what_a_disabled_transform_was_not_to_do_is_not_marked(pipeline: Pipeline):
    pipeline.upload("a.txt", "its job waits")
    pipeline.work_until("extract_file")
    pipeline.enable_files(False)
    pipeline.upload("b.txt", "no job is made for it")
    assert cancel_files(pipeline).affected == 1
    pipeline.enable_files(True)
    pipeline.work()
    assert files(pipeline) == [CANCELLED, ("succeeded", None)]


@pytest.mark.parametrize(("moment", "cancel"), [("reading", cancel_files), ("embedding", cancel_items)])
def test_a_run_that_is_cancelled_at_work_writes_nothing(
    pipeline: Pipeline, moment: str, cancel: Callable[[Pipeline], Cancelled]
):
    pipeline.upload("a.txt", "some text")
    pipeline.moments(moment).append(lambda: void(cancel(pipeline)))
    pipeline.work()
    assert (files if moment == "reading" else items)(pipeline) == [CANCELLED]
    assert pipeline.points(pipeline.targets()[0].collection_name) == set()
    assert active(pipeline) == []
    pipeline.retry_files()
    pipeline.retry()
    pipeline.work()
    pipeline.check()


@pytest.mark.parametrize("which", ["files", "items"])
def test_what_a_plan_records_at_the_same_moment_is_cancelled_with_it(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, which: str
):
    method = "_record_extractions" if which == "files" else "_record_embeddings"
    record, cancel = getattr(Planning, method), cancel_files if which == "files" else cancel_items
    pipeline.upload("a.txt", "some text")
    pipeline.push("item", "some text")
    with ThreadPoolExecutor(1) as pool:
        cancelling: list[Future[Cancelled]] = []

        def slow(*args: Any) -> None:
            record(*args)
            if not cancelling:
                cancelling.append(while_it_waits(pipeline, pool, lambda: cancel(pipeline)))

        monkeypatch.setattr(Planning, method, slow)
        pipeline.carry_out(
            pipeline.work_until("plan_collection_transform" if which == "files" else "plan_dataset_transform")
        )
        assert cancelling[0].result(30).affected == 1
    assert (files if which == "files" else items)(pipeline) == [CANCELLED]
    assert (
        "extract_file" not in active(pipeline) if which == "files" else "embed_items" not in active(pipeline)
    )


def test_a_job_that_is_begun_while_it_is_cancelled_does_not_start(pipeline: Pipeline):
    pipeline.upload("a.txt", "some text")
    job, jobs = pipeline.work_until("extract_file"), pipeline.services.jobs
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            assert jobs.cancel(session, Job.job_id == job.job_id) == ["pending"]
            beginning = while_it_waits(pipeline, pool, lambda: jobs.begin(job.job_id, "w1"))
        assert beginning.result(30) is None


def test_a_run_that_writes_its_results_first_has_done_its_job(pipeline: Pipeline):
    pipeline.upload("a.txt", "some text")
    run, services = begin(pipeline, pipeline.work_until("extract_file")), pipeline.services
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            services.jobs.finish(session, run)
            session.scalars(select(FileExtraction)).one().state = "succeeded"
            session.flush()
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_files(pipeline))
        assert cancelling.result(30) == Cancelled(0, 0, 0)
    assert files(pipeline) == [("succeeded", None)]


def test_a_run_that_asks_for_a_plan_does_not_wait_for_a_cancellation_that_waits_for_it(pipeline: Pipeline):
    pipeline.push("item", "some text")
    run, services = begin(pipeline, pipeline.work_until("embed_items")), pipeline.services
    services.dataset_transforms.trigger(ADA, pipeline.items_transform)
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            services.jobs.fence(session, run)
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_items(pipeline))
            plan = PlanDatasetTransform(pipeline.items_transform)
            pipeline.container.outbox.record(session, plan, owner_id="ada")
        assert cancelling.result(30) == Cancelled(waiting=0, running=1, affected=1)


def test_a_file_that_is_deleted_while_it_is_cancelled_is_no_error(pipeline: Pipeline):
    deleted, kept = (pipeline.upload(name, "some text") for name in ("a.txt", "b.txt"))
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            session.delete(session.get_one(File, deleted))
            session.flush()
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_files(pipeline))
        assert cancelling.result(30) == Cancelled(waiting=1, running=0, affected=1)
    with pipeline.container.database.transaction() as session:
        assert session.scalars(select(FileExtraction.file_id)).all() == [kept]


def test_one_job_is_cancelled_with_what_waits_for_it_and_nothing_else(pipeline: Pipeline):
    first, _ = (pipeline.push(name, f"text of {name}") for name in ("a", "b"))
    services = pipeline.services
    job = pipeline.work_until("embed_items")
    services.cancelling.job(ADA, job.job_id)
    assert items(pipeline) == [CANCELLED, CANCELLED]
    assert active(pipeline) == []
    with pytest.raises(ConflictError, match="it is cancelled"):
        services.cancelling.job(ADA, job.job_id)
    pipeline.delete_item(first)
    pipeline.carry_out(pipeline.work_until("plan_dataset_transform"))
    cleaning = pipeline.work_until("delete_item_vectors")
    with pytest.raises(ConflictError, match="never cancelled"):
        services.cancelling.job(ADA, cleaning.job_id)


def test_a_cancelled_plan_leaves_alone_what_another_job_sees_to(pipeline: Pipeline):
    pipeline.upload("a.txt", "its job waits")
    pipeline.work_until("extract_file")
    pipeline.upload("b.txt", "no plan has seen it")
    (plan,) = (job for job in pipeline.jobs("plan_collection_transform") if job.state == "pending")
    pipeline.services.cancelling.job(ADA, plan.job_id)
    assert files(pipeline) == [("pending", None), CANCELLED]
    pipeline.work()
    with pipeline.container.database.transaction() as session:
        assert len(session.scalars(select(Item)).all()) == 1


def test_noting_that_jobs_were_sent_waits_for_none_that_is_being_cancelled(pipeline: Pipeline):
    pipeline.upload("a.txt", "some text")
    pipeline.push("item", "some text")
    plans = [job for job in pipeline.jobs() if job.state == "pending"]
    broker = StubBroker()
    for plan in plans:
        broker.declare_queue(plan.queue)
    held, free = plans
    with pipeline.container.database.transaction() as session:
        assert pipeline.services.jobs.cancel(session, Job.job_id == held.job_id) == ["pending"]
        envelopes = [Envelope(plan.job_id, plan.kind, plan.queue) for plan in plans]
        Dispatcher(broker, pipeline.container.database).send(envelopes)
    noted = {job.job_id for job in pipeline.jobs() if job.published_at is not None}
    assert noted == {free.job_id}


def test_an_embedded_dataset_that_is_deleted_while_it_is_cancelled_is_no_error(pipeline: Pipeline):
    pipeline.push("item", "some text")
    (target,) = pipeline.targets()
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            session.delete(session.get_one(EmbeddedDataset, target.embedded_dataset_id))
            session.flush()
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_items(pipeline))
        assert cancelling.result(30) == Cancelled(0, 0, 0)
    assert items(pipeline) == []


def test_a_run_that_finds_its_transform_disabled_does_not_wait_for_a_cancellation_either(pipeline: Pipeline):
    pipeline.upload("a.txt", "some text")
    run, services = begin(pipeline, pipeline.work_until("extract_file")), pipeline.services
    pipeline.enable_files(False)
    with ThreadPoolExecutor(1) as pool:
        with pipeline.container.database.transaction() as session:
            services.jobs.fence(session, run)
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_files(pipeline))
            assert session.scalar(select(CollectionTransform.is_enabled).with_for_update(read=True)) is False
        assert cancelling.result(30).running == 1


def test_a_retry_waits_for_the_cancellation_and_brings_everything_back(pipeline: Pipeline):
    pipeline.upload("a.txt", "some text")
    job = pipeline.work_until("extract_file")
    with ThreadPoolExecutor(2) as pool:
        with pipeline.container.database.transaction() as session:
            pipeline.services.jobs.cancel(session, Job.job_id == job.job_id)  # so that the other one waits
            cancelling = while_it_waits(pipeline, pool, lambda: cancel_files(pipeline))
            retrying = pool.submit(pipeline.retry_files)
            wait_until_somebody_waits(pipeline.container.database, 2)
        assert (cancelling.result(30).affected, retrying.result(30)) == (1, 1)
    pipeline.work()
    pipeline.check()


def test_a_retry_whose_plan_is_lost_is_planned_again_by_the_sweep(pipeline: Pipeline):
    pipeline.push("item", "some text")
    pipeline.work_until("embed_items")
    cancel_items(pipeline)
    pipeline.retry()
    with pipeline.container.database.transaction() as session:
        plans = update(Job).where(Job.kind == "plan_dataset_transform")
        an_hour_ago = func.now() - timedelta(hours=1)
        session.execute(plans.values(state="dead", created_at=an_hour_ago))
    container = pipeline.container
    Sweeps(container.database, container.outbox, container.blobs, container.vectors).run()
    pipeline.work()
    pipeline.check()
