from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.errors import PermanentError
from app.jobs.contracts import EmbedItems, ExtractFile
from app.jobs.outbox import Outbox
from app.services.failures import mark_failed
from app.services.job_replay import revive
from app.services.jobs import Jobs
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ItemEmbedding, Job
from tests.integration.jobs.test_lock_order import wait_until_somebody_waits
from tests.support.domain import World

WORK = ExtractFile(1, 2, 1)


@pytest.fixture
def dead(world: World, jobs: Jobs) -> UUID:
    """A job whose message, of publication 0, was given up."""
    return bury(jobs, ask(jobs))


def ask(jobs: Jobs) -> UUID:
    with jobs.database.transaction() as session:
        return jobs.outbox.record(session, WORK, owner_id="ada")


def bury(jobs: Jobs, job_id: UUID) -> UUID:
    with jobs.database.transaction() as session:
        assert jobs.bury(session, job_id, PermanentError("it cannot be done"), publication=0)
    return job_id


def job(database: Database, job_id: UUID) -> Job:
    with database.transaction() as session:
        return session.get_one(Job, job_id)


def test_a_dead_job_waits_for_the_message_that_replays_its_letter(dead: UUID, jobs: Jobs, database: Database):
    with database.transaction() as session:
        session.execute(update(Job).values(put_off_at=func.now()))
    assert revive(jobs, dead, publication=1)
    row = job(database, dead)
    assert (row.state, row.error_message, row.finished_at, row.attempt) == ("pending", None, None, 0)
    assert row.put_off_at is None, "else its patience would be at an end already"
    assert row.expected_by is not None, "else nobody would miss the message"
    assert jobs.begin(dead, "w", publication=0) is None
    assert jobs.begin(dead, "w", publication=1) is not None


def test_a_job_dies_whatever_characters_its_error_quotes(world: World, jobs: Jobs, database: Database):
    job_id = ask(jobs)
    with jobs.database.transaction() as session:
        assert jobs.bury(session, job_id, PermanentError("not \x00 a \ud800 word"), publication=0)
    assert job(database, job_id).error_message == "not \ufffd a \ufffd word"


def test_a_letter_that_is_not_the_last_of_its_job_starts_nothing(
    dead: UUID, jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
):
    with database.transaction() as session:
        session.execute(update(Job).values(publication=1))
    assert not revive(jobs, dead, publication=1)
    assert "a later message of the job was given up, too" in caplog.text
    assert revive(jobs, dead, publication=2)


@pytest.mark.parametrize("state", ["pending", "running", "succeeded"])
def test_work_that_was_asked_for_again_is_not_done_twice(
    dead: UUID, jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture, state: str
):
    again = ask(jobs)
    with database.transaction() as session:
        session.execute(update(Job).where(Job.job_id == again).values(state=state))
    assert not revive(jobs, dead, publication=1)
    assert "a later job does the same work, or has done it" in caplog.text
    assert job(database, dead).state == "dead"


def test_work_that_is_asked_for_at_this_very_moment_is_left_to_that(
    dead: UUID, jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
):
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as session:
            jobs.outbox.record(session, WORK, owner_id="ada")
            replaying = pool.submit(revive, jobs, dead, publication=1)
            wait_until_somebody_waits(database)
        assert not replaying.result(30)
    assert "the same work was asked for again" in caplog.text


def test_of_two_letters_of_the_same_work_one_starts_it(dead: UUID, jobs: Jobs, database: Database):
    other = bury(jobs, ask(jobs))
    assert revive(jobs, dead, publication=1)
    assert not revive(jobs, other, publication=1)
    assert (job(database, dead).state, job(database, other).state) == ("pending", "dead")


def test_a_replay_of_a_job_that_is_gone_starts_nothing(dead: UUID, jobs: Jobs, database: Database):
    with database.transaction() as session:
        session.delete(session.get_one(Job, dead))
    assert not revive(jobs, dead, publication=1)


def test_items_that_failed_with_the_job_wait_for_it_again(
    world: World, jobs: Jobs, outbox: Outbox, database: Database
):
    dataset = world.dataset()
    target = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    with database.transaction() as session:
        job_id = outbox.record(session, EmbedItems(target, "batch", (7,)), owner_id="ada")
        session.add(
            ItemEmbedding(
                embedded_dataset_id=target,
                item_id=7,
                content_hash="x",
                state="pending",
                job_id=job_id,
                chunk_count=1,
            )
        )
    bury(jobs, job_id)
    with database.transaction() as session:
        mark_failed(session, job_id, PermanentError("it cannot be done"))
    assert revive(jobs, job_id, publication=1)
    with database.transaction() as session:
        row = session.scalars(select(ItemEmbedding)).one()
    assert (row.state, row.error_code, row.error_message) == ("pending", None, None)
