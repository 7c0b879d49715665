from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, text, update

from app.errors import ProviderUnavailableError
from app.jobs import reconcile
from app.jobs.contracts import ExtractFile
from app.jobs.outbox import Outbox
from app.jobs.policy import Policies
from app.jobs.reconcile import Finding, Reconciler
from app.services.jobs import Jobs
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job
from tests.support.clocks import Ahead
from tests.support.domain import Recorder, World

LONG_AGO = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def reconciler(database: Database, recorder: Recorder) -> Reconciler:
    return Reconciler(database, recorder, policies=Policies(processing_timeout_seconds=60))


@pytest.fixture
def job_id(world: World, database: Database, outbox: Outbox, recorder: Recorder) -> UUID:
    with database.transaction() as session:
        job_id = outbox.record(session, ExtractFile(1, 2, 1), owner_id="ada")
    recorder.sent.clear()
    return job_id


def change(database: Database, **values) -> None:
    with database.transaction() as session:
        session.execute(update(Job).values(**values))


def test_a_fresh_job_is_left_to_its_sender(job_id: UUID, reconciler: Reconciler, recorder: Recorder):
    assert reconciler.run() == Finding(0, 0, 0)
    assert recorder.sent == []


def test_a_job_that_was_never_published_is_sent_as_a_new_publication(
    job_id: UUID, database: Database, reconciler: Reconciler, recorder: Recorder
):
    change(database, updated_at=LONG_AGO)
    assert reconciler.run() == Finding(unpublished=1, overdue=0, lost_workers=0)
    assert [(one.job_id, one.publication) for one in recorder.sent] == [(job_id, 1)]


def test_a_published_job_is_sent_again_once_it_is_overdue(
    job_id: UUID, database: Database, reconciler: Reconciler, recorder: Recorder
):
    change(database, published_at=LONG_AGO, expected_by=datetime.now(UTC) + timedelta(minutes=1))
    assert reconciler.run() == Finding(0, 0, 0)
    change(database, expected_by=LONG_AGO)
    assert reconciler.run() == Finding(unpublished=0, overdue=1, lost_workers=0)
    assert len(recorder.sent) == 1


def test_a_job_that_is_asked_for_all_the_time_is_published_all_the_same(
    job_id: UUID, database: Database, outbox: Outbox, reconciler: Reconciler
):
    change(database, updated_at=LONG_AGO)
    with database.transaction() as session:
        assert outbox.record(session, ExtractFile(1, 2, 1), owner_id="ada") == job_id
    assert reconciler.run() == Finding(unpublished=1, overdue=0, lost_workers=0)


def test_a_retry_in_a_long_queue_is_not_taken_for_a_lost_one(
    job_id: UUID, database: Database, jobs: Jobs, reconciler: Reconciler
):
    fail(jobs, job_id)
    with database.transaction() as session:
        session.execute(update(Job).values(expected_by=Job.expected_by - timedelta(minutes=10)))
    assert reconciler.run() == Finding(0, 0, 0)


def test_a_lost_retry_keeps_the_attempts_that_were_made(
    job_id: UUID, database: Database, jobs: Jobs, reconciler: Reconciler, recorder: Recorder
):
    fail(jobs, job_id)
    fail(jobs, job_id, retries=1)
    change(database, expected_by=LONG_AGO)
    assert reconciler.run() == Finding(unpublished=0, overdue=1, lost_workers=0)
    assert [envelope.retries for envelope in recorder.sent] == [2]


def test_runs_that_were_interrupted_and_messages_that_were_lost_cost_no_attempt(
    job_id: UUID, database: Database, jobs: Jobs, reconciler: Reconciler, recorder: Recorder
):
    fail(jobs, job_id)
    for publication in (0, 2, 4):
        assert jobs.begin(job_id, "w1", publication=publication, retries=1) is not None
        change(database, started_at=LONG_AGO)
        assert reconciler.run() == Finding(unpublished=0, overdue=0, lost_workers=1)
        change(database, updated_at=LONG_AGO)
        assert reconciler.run() == Finding(unpublished=1, overdue=0, lost_workers=0)
    assert [envelope.retries for envelope in recorder.sent] == [1] * 6
    run = jobs.begin(job_id, "w2", publication=6, retries=1)
    assert run is not None
    assert run.attempt == 2


def fail(jobs: Jobs, job_id: UUID, retries: int = 0) -> None:
    run = jobs.begin(job_id, "w1", retries=retries)
    assert run is not None
    jobs.retry_later(run, ProviderUnavailableError("429"), delay_seconds=30)


def test_a_fleet_at_work_does_not_hide_what_was_never_published(
    job_id: UUID, database: Database, outbox: Outbox, reconciler: Reconciler
):
    with database.transaction() as session:
        outbox.record_many(session, [ExtractFile(1, n, 1) for n in range(10, 1110)], owner_id="ada")
        session.execute(
            update(Job)
            .where(Job.job_id != job_id)
            .values(state="running", started_at=func.now(), created_at=LONG_AGO)
        )
        session.execute(update(Job).where(Job.job_id == job_id).values(updated_at=LONG_AGO))
    assert reconciler.run() == Finding(unpublished=1, overdue=0, lost_workers=0)


def test_a_job_of_a_queue_that_this_release_does_not_know_stops_nothing(
    job_id: UUID, database: Database, jobs: Jobs, reconciler: Reconciler
):
    assert jobs.begin(job_id, "w1") is not None
    change(database, queue="tomorrow", started_at=LONG_AGO)
    assert reconciler.run() == Finding(unpublished=0, overdue=0, lost_workers=1)


def test_a_running_job_is_lost_only_after_its_limit(
    job_id: UUID, database: Database, jobs: Jobs, reconciler: Reconciler, recorder: Recorder
):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    assert reconciler.run() == Finding(0, 0, 0)
    change(database, started_at=LONG_AGO)
    assert reconciler.run() == Finding(unpublished=0, overdue=0, lost_workers=1)
    assert not jobs.is_current(run)
    assert jobs.begin(job_id, "w2", publication=recorder.sent[0].publication) is not None


def test_a_worker_whose_clock_is_ahead_takes_no_run_away(
    job_id: UUID, jobs: Jobs, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    monkeypatch.setattr(reconcile, "datetime", Ahead)
    assert reconciler.run() == Finding(0, 0, 0)
    assert jobs.is_current(run)


def test_a_dry_run_counts_and_changes_nothing(
    job_id: UUID, database: Database, reconciler: Reconciler, recorder: Recorder
):
    change(database, updated_at=LONG_AGO)
    assert reconciler.run(dry_run=True) == Finding(unpublished=1, overdue=0, lost_workers=0)
    assert recorder.sent == []
    assert reconciler.run() == Finding(unpublished=1, overdue=0, lost_workers=0)


def test_only_one_reconciler_works_at_a_time(job_id: UUID, database: Database, reconciler: Reconciler):
    with database.transaction() as session:
        session.execute(text("SELECT pg_advisory_xact_lock(7201650044)"))
        assert reconciler.run() is None


def test_held_jobs_are_let_go_where_whoever_recorded_them_died_first(
    job_id: UUID, database: Database, reconciler: Reconciler, recorder: Recorder
):
    change(database, held=True)
    assert reconciler.run(dry_run=True) == Finding(0, 0, 0)
    assert recorder.sent == []
    reconciler.run()
    assert [(one.job_id, one.publication) for one in recorder.sent] == [(job_id, 0)]


def test_a_job_that_is_held_for_long_is_not_taken_for_lost(
    database: Database, world: World, outbox: Outbox, reconciler: Reconciler, recorder: Recorder
):
    with database.transaction() as session:
        outbox.record_many(session, [ExtractFile(1, key, 1) for key in range(20)], owner_id="ada")
    with database.transaction() as session:
        session.execute(update(Job).where(Job.held).values(updated_at=LONG_AGO, created_at=LONG_AGO))
    sent = len(recorder.sent)
    assert reconciler.run() == Finding(0, 0, 0)
    assert len(recorder.sent) == sent


def test_jobs_of_streams_that_were_lost_are_sent_again_at_once_and_once(
    job_id: UUID, database: Database, outbox: Outbox, jobs: Jobs, reconciler: Reconciler, recorder: Recorder
):
    with database.transaction() as session:
        waiting = outbox.record(session, ExtractFile(1, 3, 1), owner_id="ada")
    run = jobs.begin(job_id, "w1")
    assert run is not None
    recorder.sent.clear()
    lost_at = datetime.now(UTC)
    assert reconciler.run(dry_run=True, streams_lost_at=lost_at) == Finding(1, 0, 1)
    assert reconciler.run(streams_lost_at=lost_at) == Finding(1, 0, 1)
    assert [envelope.job_id for envelope in recorder.sent] == [job_id, waiting]
    assert not jobs.is_current(run)
    assert reconciler.run(streams_lost_at=lost_at) == Finding(0, 0, 0)
