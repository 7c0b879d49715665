from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from app.jobs.admission import READY_AHEAD
from app.jobs.contracts import EmbedItems, ExtractFile, PlanCollectionTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.cancelling import Cancelling
from app.services.jobs import Jobs
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job
from tests.support.domain import Recorder, World

MANY = 60


@pytest.fixture
def crowd(world: World, database: Database, outbox: Outbox) -> list[UUID]:
    """Ada's many files, recorded as a plan does it."""
    return record(database, outbox, "ada", MANY)


def record(database: Database, outbox: Outbox, owner_id: str, number: int, transform: int = 1) -> list[UUID]:
    with database.transaction() as session:
        work = [ExtractFile(transform, file_id, 1) for file_id in range(number)]
        return outbox.record_many(session, work, owner_id=owner_id)


def waiting_on_the_stream(database: Database) -> int:
    with database.transaction() as session:
        query = select(func.count()).select_from(Job).where(Job.state == "pending", ~Job.held)
        return session.scalar(query) or 0


def finish(database: Database, jobs: Jobs, job_id: UUID) -> None:
    run = jobs.begin(job_id, "test")
    assert run is not None
    with database.transaction() as session:
        jobs.finish(session, run)


def test_a_plan_of_many_files_puts_only_a_handful_on_the_stream(crowd: list[UUID], recorder: Recorder):
    assert len(crowd) == MANY
    assert len(recorder.sent) == READY_AHEAD


def test_each_job_that_is_taken_lets_the_next_go_until_all_are_done(
    crowd: list[UUID], database: Database, jobs: Jobs, recorder: Recorder
):
    done: list[UUID] = []
    while len(done) < len(recorder.sent):
        done.append(recorder.sent[len(done)].job_id)
        finish(database, jobs, done[-1])
        assert waiting_on_the_stream(database) <= READY_AHEAD
    assert sorted(done) == sorted(crowd)


def test_another_owners_single_file_goes_at_once_though_there_is_no_room(
    crowd: list[UUID], world: World, database: Database, outbox: Outbox, recorder: Recorder
):
    World(database, "bob")
    (single,) = record(database, outbox, "bob", 1, transform=2)
    assert [one.job_id for one in recorder.sent[READY_AHEAD:]] == [single]


def test_another_owners_second_file_waits_for_room_and_is_the_next_to_go(
    crowd: list[UUID], world: World, database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    World(database, "bob")
    both = record(database, outbox, "bob", 2, transform=2)
    assert len(recorder.sent) == READY_AHEAD + 1
    for envelope in recorder.sent[:READY_AHEAD]:
        jobs.begin(envelope.job_id, "test")
    assert {one.job_id for one in recorder.sent[READY_AHEAD:]} == set(both)


def test_a_plan_of_ones_own_that_runs_does_not_make_one_less_of_a_newcomer(
    crowd: list[UUID], world: World, database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    World(database, "bob")
    with database.transaction() as session:
        plan = outbox.record(session, PlanCollectionTransform(2), owner_id="bob")
    jobs.begin(plan, "test")
    (single,) = record(database, outbox, "bob", 1, transform=2)
    assert recorder.sent[-1].job_id == single


def test_a_single_file_in_another_collection_of_the_same_owner_is_the_next_to_go(
    crowd: list[UUID], database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    (single,) = record(database, outbox, "ada", 1, transform=2)
    jobs.begin(recorder.sent[0].job_id, "test")
    assert recorder.sent[-1].job_id == single


def test_two_piles_of_an_owner_share_what_one_pile_of_another_has_as_well(
    crowd: list[UUID], database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    second = set(record(database, outbox, "ada", MANY, transform=2))
    World(database, "bob")
    bobs = set(record(database, outbox, "bob", MANY, transform=3))
    done = 0
    while len(recorder.sent) < 10 * READY_AHEAD:
        finish(database, jobs, recorder.sent[done].job_id)
        done += 1
    late = [one.job_id for one in recorder.sent[2 * READY_AHEAD :]]
    parts = [sum(job_id in part for job_id in late) for part in (set(crowd), second, bobs)]
    assert abs(parts[2] - parts[0] - parts[1]) <= 1
    assert abs(parts[0] - parts[1]) <= 2


def test_owners_with_much_to_do_take_turns(
    crowd: list[UUID], database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder
):
    World(database, "bob")
    bobs = set(record(database, outbox, "bob", MANY, transform=2))
    done = 0
    while len(recorder.sent) < 5 * READY_AHEAD:
        finish(database, jobs, recorder.sent[done].job_id)
        done += 1
    lately = [envelope.job_id in bobs for envelope in recorder.sent[-2 * READY_AHEAD :]]
    assert lately.count(True) == lately.count(False)


def test_workers_that_begin_at_once_neither_flood_nor_stall_the_queue(
    crowd: list[UUID], database: Database, jobs: Jobs, recorder: Recorder
):
    begun = 0
    with ThreadPoolExecutor(READY_AHEAD) as threads:
        while begun < len(recorder.sent):
            ready = [envelope.job_id for envelope in recorder.sent[begun:]]
            begun += len(ready)
            list(threads.map(lambda job_id: finish(database, jobs, job_id), ready))
            assert waiting_on_the_stream(database) <= READY_AHEAD
    assert begun == MANY


def test_queues_do_not_wait_for_each_other(
    crowd: list[UUID], database: Database, outbox: Outbox, recorder: Recorder
):
    with database.transaction() as session:
        outbox.record(session, EmbedItems(1, "batch", (1,)), owner_id="ada")
    assert recorder.kinds()[-1] == "embed_items"


def test_planning_is_never_held_back(
    crowd: list[UUID], database: Database, outbox: Outbox, recorder: Recorder
):
    with database.transaction() as session:
        outbox.record(session, PlanCollectionTransform(1), owner_id="ada")
    assert recorder.kinds()[-1] == "plan_collection_transform"


def test_cancelling_a_job_that_waits_lets_the_next_go(
    crowd: list[UUID], database: Database, jobs: Jobs, recorder: Recorder
):
    Cancelling(database, jobs, recorder).job(Principal("ada", "Ada"), recorder.sent[0].job_id)
    assert len(recorder.sent) == READY_AHEAD + 1


def test_a_job_in_backoff_keeps_no_place(crowd: list[UUID], database: Database, recorder: Recorder):
    with database.transaction() as session:
        failed = [envelope.job_id for envelope in recorder.sent]
        session.execute(update(Job).where(Job.job_id.in_(failed)).values(state="retrying"))
    recorder.admit(recorder.sent[0].queue)
    assert len(recorder.sent) == 2 * READY_AHEAD
