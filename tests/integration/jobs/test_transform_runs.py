"""How far a run of a transform is, from the plan's row and the rows of the jobs that it asked for."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.errors import NotFoundError, UnreadableFileError
from app.jobs.contracts import ExtractFile, PlanCollectionTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.failures import mark_failed
from app.services.jobs import Jobs, Run
from app.services.planning import Planning
from app.services.transform_runs import TransformRun, TransformRuns
from app.storage.postgres.session import Database
from app.storage.postgres.tables import CollectionTransform, FileExtraction, Job
from tests.support.domain import Recorder, World

ADA = Principal("ada", "Ada")


class Crowd:
    """A collection with a transform whose jobs are begun and ended by hand."""

    def __init__(self, world: World, outbox: Outbox, jobs: Jobs, recorder: Recorder) -> None:
        self.world, self.database, self.jobs = world, world.database, jobs
        self.outbox, self.recorder = outbox, recorder
        self.planning = Planning(world.database, outbox, jobs, recorder)
        self.runs = TransformRuns(world.database)
        self.collection = world.collection()
        self.transform = world.collection_transform(self.collection, world.dataset())

    def upload(self, number: int, name: str = "f") -> None:
        for each in range(number):
            self.world.file(self.collection, f"{name}{each}.txt")

    def plan(self) -> UUID:
        """A plan, carried out; the run that it begins."""
        with self.database.transaction() as session:
            job_id = self.outbox.record(session, PlanCollectionTransform(self.transform), owner_id="ada")
        run = self.jobs.begin(job_id, "w")
        assert run is not None
        self.planning.plan_collection_transform(run, self.transform)
        return job_id

    def begin(self) -> Run:
        """The oldest job that waits."""
        waiting = select(Job.job_id).where(Job.kind == ExtractFile.kind, Job.state == "pending")
        with self.database.transaction() as session:
            job_id = session.scalars(waiting.order_by(Job.created_at, Job.job_id)).first()
        assert job_id is not None
        run = self.jobs.begin(job_id, "w")
        assert run is not None
        return run

    def finish(self, run: Run, **outcome: Any) -> None:
        with self.database.transaction() as session:
            self.jobs.finish(session, run, outcome=outcome)
            self._mark(session, run, "succeeded")

    def fail(self, run: Run) -> None:
        with self.database.transaction() as session:
            self.jobs.fail(session, run, UnreadableFileError("it is broken"))
            self._mark(session, run, "failed")

    def _mark(self, session: Session, run: Run, state: str) -> None:
        row = update(FileExtraction).where(FileExtraction.job_id == run.job_id)
        session.execute(row.values(state=state))

    def run(self, run_id: UUID) -> TransformRun:
        return self.runs.get(ADA, "collection", self.transform, run_id)


@pytest.fixture
def crowd(world: World, outbox: Outbox, jobs: Jobs, recorder: Recorder) -> Crowd:
    return Crowd(world, outbox, jobs, recorder)


def figures(run: TransformRun) -> tuple[str, int, int, int, int, int]:
    done = run.progress
    return run.status, done.total, done.done, done.failed, done.running, done.left


def test_a_run_counts_what_became_of_its_files_and_no_others(crowd: Crowd):
    crowd.upload(5)
    first = crowd.plan()
    crowd.finish(crowd.begin())
    crowd.finish(crowd.begin(), skipped="the file was deleted")
    crowd.fail(crowd.begin())
    crowd.begin()
    crowd.upload(1, "later")
    second = crowd.plan()
    run = crowd.run(first)
    assert figures(run) == ("processing", 5, 2, 1, 1, 2)
    assert (run.progress.unit, run.jobs, run.skipped, run.finished_at) == ("files", 5, 1, None)
    assert run.progress.rate > 0
    assert run.progress.eta_seconds == pytest.approx(2 / run.progress.rate)
    assert figures(crowd.run(second)) == ("processing", 1, 0, 0, 0, 1)


def test_runs_come_newest_first_without_plans_that_found_nothing(crowd: Crowd):
    crowd.upload(1)
    first = crowd.plan()
    crowd.finish(crowd.begin())
    idle = crowd.plan()
    crowd.upload(2, "later")
    second = crowd.plan()
    page = crowd.runs.list(ADA, "collection", crowd.transform, limit=1)
    rest = crowd.runs.list(ADA, "collection", crowd.transform, limit=1, cursor=page.next_cursor)
    assert [page.items[0].run_id, rest.items[0].run_id, rest.next_cursor] == [second, first, None]
    assert page.total_count == 2
    ended = rest.items[0]
    assert (ended.status, ended.progress.left, ended.finished_at is not None) == ("completed", 0, True)
    assert figures(crowd.run(idle)) == ("completed", 0, 0, 0, 0, 0)


def test_what_a_later_run_asks_for_anew_is_counted_there_and_once(crowd: Crowd):
    crowd.upload(3)
    first = crowd.plan()
    crowd.finish(crowd.begin())
    at_work = crowd.begin()
    with crowd.database.transaction() as session:
        session.execute(update(CollectionTransform).values(config_hash="c2"))
    second = crowd.plan()
    assert figures(crowd.run(first)) == ("completed", 1, 1, 0, 0, 0)
    assert figures(crowd.run(second)) == ("processing", 3, 0, 0, 1, 3)
    crowd.finish(at_work)  # as it began before the change, it is made once more
    assert figures(crowd.run(second)) == ("processing", 3, 0, 0, 0, 3)
    for _ in range(3):
        crowd.finish(crowd.begin())
    assert figures(crowd.run(second)) == ("completed", 3, 3, 0, 0, 0)


def test_a_run_that_is_cancelled_or_whose_plan_fails_says_so(crowd: Crowd):
    crowd.upload(2)
    stopped = crowd.plan()
    with crowd.database.transaction() as session:
        crowd.jobs.cancel(session, Job.planned_by == stopped)
    assert figures(crowd.run(stopped)) == ("cancelled", 2, 0, 2, 0, 0)
    with crowd.database.transaction() as session:
        job_id = crowd.outbox.record(session, PlanCollectionTransform(crowd.transform), owner_id="ada")
    assert crowd.run(job_id).status == "planning"
    begun = crowd.jobs.begin(job_id, "w")
    assert begun is not None
    crowd.fail(begun)
    broken = crowd.run(job_id)
    assert (broken.status, broken.error_message) == ("failed", "it is broken")
    assert crowd.runs.list(ADA, "collection", crowd.transform).items[0] == broken


def test_a_run_of_another_transform_or_kind_is_not_there(crowd: Crowd, database: Database):
    crowd.upload(1)
    run_id = crowd.plan()
    other = crowd.world.collection_transform(crowd.collection, crowd.world.dataset())
    dataset = crowd.world.dataset_transform(crowd.world.dataset())
    with pytest.raises(NotFoundError):
        crowd.runs.get(ADA, "collection", other, run_id)
    with pytest.raises(NotFoundError):
        crowd.runs.get(ADA, "dataset", dataset, run_id)
    with database.transaction() as session:
        work = session.scalars(select(Job.job_id).where(Job.planned_by == run_id)).one()
    with pytest.raises(NotFoundError):
        crowd.run(work)


def test_events_name_their_run(crowd: Crowd, database: Database):
    crowd.upload(1)
    run_id = crowd.plan()
    (planned,) = crowd.recorder.told
    run = crowd.begin()
    with database.transaction() as session:
        (subject,) = mark_failed(session, run.job_id, UnreadableFileError("it is broken"))
    assert planned.detail == {"planned": 1, "run_id": str(run_id)}
    assert subject.run_id == run.planned_by == run_id
