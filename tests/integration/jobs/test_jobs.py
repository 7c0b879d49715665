from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, update

from app.errors import (
    JobCancelledError,
    NotFoundError,
    ProviderPausedError,
    ProviderUnavailableError,
    UnreadableFileError,
)
from app.jobs.contracts import ExtractFile, PlanCollectionTransform, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.jobs.policy import PATIENCE
from app.security.principal import Principal
from app.services.cancelling import Cancelling
from app.services.job_filters import JobFilter
from app.services.jobs import Jobs
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job
from tests.support.domain import Recorder, World

WORK = ExtractFile(collection_transform_id=1, file_id=2, file_version=1)


def record(database: Database, outbox: Outbox, contract=WORK) -> UUID:
    with database.transaction() as session:
        return outbox.record(session, contract, owner_id="ada")


def row(database: Database, job_id: UUID) -> Job:
    with database.transaction() as session:
        found = session.get(Job, job_id)
        assert found is not None
        return found


@pytest.fixture
def job_id(world: World, database: Database, outbox: Outbox) -> UUID:
    return record(database, outbox)


class BoomError(Exception):
    pass


def test_a_job_is_sent_after_its_transaction_committed(job_id: UUID, recorder: Recorder):
    assert [envelope.job_id for envelope in recorder.sent] == [job_id]


def test_a_rolled_back_cause_leaves_no_job_and_sends_nothing(
    world: World, database: Database, outbox: Outbox, recorder: Recorder
):
    with pytest.raises(BoomError), database.transaction() as session:
        outbox.record(session, WORK, owner_id="ada")
        raise BoomError
    assert recorder.sent == []
    with database.transaction() as session:
        assert session.query(Job).count() == 0


def test_work_that_waits_already_is_not_recorded_twice(
    job_id: UUID, database: Database, outbox: Outbox, recorder: Recorder
):
    assert record(database, outbox) == job_id
    assert len(recorder.sent) == 1
    assert row(database, job_id).rerun is False


def test_work_asked_for_while_it_runs_is_done_once_more(
    job_id: UUID, database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    record(database, outbox)
    with database.transaction() as session:
        jobs.finish(session, run)
    assert len(recorder.sent) == 2
    follower = row(database, recorder.sent[1].job_id)
    assert (follower.state, follower.arguments) == ("pending", WORK.arguments())


def test_a_plan_that_every_file_of_a_crowd_asks_for_follows_the_last_one_after_a_pause(
    database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder, world: World
):
    work = PlanDatasetTransform(world.dataset_transform(world.dataset()))
    run = jobs.begin(record(database, outbox, work), "w1")
    assert run is not None
    record(database, outbox, work)
    with database.transaction() as session:
        jobs.finish(session, run)
    assert [each.delay_seconds for each in recorder.sent] == [0, work.again_after_seconds]
    assert work.again_after_seconds > 0


def test_the_same_work_may_be_done_again_after_it_ended(
    job_id: UUID, database: Database, outbox: Outbox, jobs: Jobs
):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    with database.transaction() as session:
        jobs.finish(session, run)
    assert record(database, outbox) != job_id


def test_many_jobs_keep_the_order_of_their_contracts(world: World, database: Database, outbox: Outbox):
    contracts = [ExtractFile(1, file_id, 1) for file_id in range(1, 1201)]
    contracts.append(contracts[0])
    with database.transaction() as session:
        ids = outbox.record_many(session, contracts, owner_id="ada")
    assert len(set(ids)) == 1200
    assert ids[0] == ids[-1]
    assert row(database, ids[700]).arguments["file_id"] == 701


def test_a_run_that_was_taken_over_can_write_nothing(job_id: UUID, database: Database, jobs: Jobs):
    stale = jobs.begin(job_id, "w1")
    fresh = jobs.begin(job_id, "w2")
    assert stale is not None
    assert fresh is not None
    with pytest.raises(JobCancelledError), database.transaction() as session:
        jobs.finish(session, stale)
    assert not jobs.is_current(stale)
    with database.transaction() as session:
        jobs.finish(session, fresh)
    assert row(database, job_id).state == "succeeded"
    assert row(database, job_id).attempt == 1, "nothing failed"


def test_an_ended_job_does_not_begin_again(job_id: UUID, database: Database, jobs: Jobs):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    with database.transaction() as session:
        jobs.finish(session, run)
    assert jobs.begin(job_id, "w2") is None


def test_a_message_of_an_older_publication_starts_nothing(job_id: UUID, database: Database, jobs: Jobs):
    with database.transaction() as session:
        session.execute(update(Job).where(Job.job_id == job_id).values(publication=1))
    assert jobs.begin(job_id, "w1", publication=0) is None
    assert jobs.begin(job_id, "w1", publication=1) is not None


def test_a_job_has_patience_from_when_it_was_first_put_off(job_id: UUID, database: Database, jobs: Jobs):
    ages: list[tuple[dict[str, Any], bool]] = [
        ({"created_at": func.now() - PATIENCE * 2}, True),  # it was held for two days
        ({"put_off_at": Job.put_off_at - PATIENCE / 2}, True),
        ({"put_off_at": Job.put_off_at - PATIENCE / 2}, False),
    ]
    for publication, (age, waits) in enumerate(ages):
        with database.transaction() as session:
            session.execute(update(Job).values(**age))
        run = jobs.begin(job_id, "w1", publication=publication)
        assert run is not None
        assert jobs.put_off(run, ProviderPausedError("x"), delay_seconds=1, retries=0) is waits


def test_a_failed_attempt_waits_for_its_retry_with_the_cause(job_id: UUID, database: Database, jobs: Jobs):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    jobs.retry_later(run, ProviderUnavailableError("429 from the provider"), delay_seconds=30)
    waiting = row(database, job_id)
    assert (waiting.state, waiting.error_message) == ("retrying", "429 from the provider")
    assert waiting.expected_by is not None


def test_a_dead_job_keeps_its_cause_and_shows_among_the_failed(job_id: UUID, database: Database, jobs: Jobs):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    with database.transaction() as session:
        jobs.fail(session, run, UnreadableFileError("the file is password-protected"))
    (view,) = jobs.list(Principal("ada", "Ada"), JobFilter(state="dead")).items
    assert (view.error_code, view.error_message) == ("unreadable_file", "the file is password-protected")


def test_a_cancelled_job_is_refused_at_its_next_write(
    job_id: UUID, database: Database, jobs: Jobs, recorder: Recorder
):
    run = jobs.begin(job_id, "w1")
    assert run is not None
    Cancelling(database, jobs, recorder).job(Principal("ada", "Ada"), job_id)
    with pytest.raises(JobCancelledError), database.transaction() as session:
        jobs.finish(session, run)
    assert jobs.begin(job_id, "w2") is None


def test_somebody_elses_job_cannot_be_cancelled_or_seen(
    job_id: UUID, database: Database, jobs: Jobs, recorder: Recorder
):
    eve = Principal("eve", "Eve")
    with pytest.raises(NotFoundError):
        Cancelling(database, jobs, recorder).job(eve, job_id)
    with pytest.raises(NotFoundError):
        jobs.get(eve, job_id)
    assert jobs.list(eve).items == ()


def test_a_job_whose_worker_never_reported_is_buried(job_id: UUID, database: Database, jobs: Jobs):
    assert jobs.begin(job_id, "w1") is not None
    assert bury(database, jobs, job_id)
    assert not bury(database, jobs, job_id)
    assert row(database, job_id).state == "dead"


def test_the_end_of_an_older_message_does_not_bury_the_job(job_id: UUID, database: Database, jobs: Jobs):
    with database.transaction() as session:
        session.execute(update(Job).where(Job.job_id == job_id).values(publication=1))
    assert not bury(database, jobs, job_id, publication=0)
    assert row(database, job_id).state == "pending"
    assert bury(database, jobs, job_id, publication=1)


def test_what_was_asked_for_while_a_job_ran_is_done_although_it_was_buried(
    job_id: UUID, database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    assert jobs.begin(job_id, "w1") is not None
    record(database, outbox)
    assert bury(database, jobs, job_id)
    assert row(database, recorder.sent[-1].job_id).state == "pending"
    assert recorder.sent[-1].job_id != job_id


def test_a_job_that_this_release_cannot_read_can_be_buried(job_id: UUID, database: Database, jobs: Jobs):
    with database.transaction() as session:
        session.execute(update(Job).values(kind="of_tomorrow", rerun=True))
    assert bury(database, jobs, job_id)
    assert row(database, job_id).state == "dead"


def bury(database: Database, jobs: Jobs, job_id: UUID, publication: int = 0) -> bool:
    with database.transaction() as session:
        return jobs.bury(session, job_id, UnreadableFileError("crash loop"), publication=publication)


def test_contracts_name_their_scope(world: World, database: Database, outbox: Outbox):
    job_id = record(database, outbox, PlanCollectionTransform(7))
    assert (row(database, job_id).scope_kind, row(database, job_id).scope_id) == ("collection_transform", 7)
