"""How many held jobs are let go ahead of the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.errors import ProviderPausedError, ProviderUnavailableError
from app.jobs.admission import MOST_PUT_OFF, MOST_RETRYING, READY_AHEAD
from app.jobs.contracts import COLLECTIONS, ExtractFile
from app.jobs.outbox import Outbox
from app.services.jobs import Jobs, Run
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job
from tests.support.domain import Recorder, World


@pytest.fixture
def crowd(world: World, database: Database, outbox: Outbox) -> None:
    with database.transaction() as session:
        outbox.record_many(session, [ExtractFile(1, number, 1) for number in range(100)], owner_id="ada")


def change_sent(database: Database, recorder: Recorder, **values: object) -> None:
    with database.transaction() as session:
        sent = [envelope.job_id for envelope in recorder.sent]
        session.execute(update(Job).where(Job.job_id.in_(sent)).values(**values))


@pytest.mark.usefixtures("crowd")
def test_one_job_waits_for_every_four_that_run_so_that_a_large_fleet_finds_work(
    database: Database, recorder: Recorder
):
    while len(recorder.sent) < 40:
        change_sent(database, recorder, state="running")
        recorder.admit(COLLECTIONS)
    change_sent(database, recorder, state="running")
    running = len(recorder.sent)
    recorder.admit(COLLECTIONS)
    assert len(recorder.sent) == running + running // 4


@pytest.mark.usefixtures("crowd")
def test_jobs_whose_sending_failed_keep_no_place_and_those_that_were_sent_do(
    database: Database, recorder: Recorder
):
    long_ago = func.now() - timedelta(minutes=1)
    change_sent(database, recorder, published_at=long_ago, updated_at=long_ago)
    recorder.admit(COLLECTIONS)
    assert len(recorder.sent) == READY_AHEAD
    change_sent(database, recorder, published_at=None, updated_at=long_ago)
    recorder.admit(COLLECTIONS)
    assert len(recorder.sent) == 2 * READY_AHEAD


def put_off(jobs: Jobs, run: Run) -> None:
    assert jobs.put_off(run, ProviderPausedError("left alone"), delay_seconds=30, retries=0)


def fail_for_now(jobs: Jobs, run: Run) -> None:
    jobs.retry_later(run, ProviderUnavailableError("away"), delay_seconds=30)


def work(jobs: Jobs, recorder: Recorder, end: Callable[[Jobs, Run], None]) -> None:
    """Begin what was sent and is due, and what is sent meanwhile."""
    for envelope in recorder.sent:
        run = None
        if not envelope.delay_seconds:
            run = jobs.begin(envelope.job_id, "test", publication=envelope.publication)
        if run is not None:
            end(jobs, run)


def succeed(jobs: Jobs, run: Run) -> None:
    with jobs.database.transaction() as session:
        jobs.finish(session, run)


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(("end", "most"), [(put_off, MOST_PUT_OFF), (fail_for_now, MOST_RETRYING)])
def test_a_crowd_that_cannot_go_on_stays_held_and_keeps_nobody_waiting(
    end: Callable[[Jobs, Run], None],
    most: int,
    database: Database,
    outbox: Outbox,
    jobs: Jobs,
    recorder: Recorder,
):
    work(jobs, recorder, end)
    tried = {envelope.job_id for envelope in recorder.sent}
    assert most <= len(tried) <= most + READY_AHEAD
    World(database, "bob")
    with database.transaction() as session:
        others = [
            outbox.record(session, ExtractFile(2, 1, 1), owner_id="ada"),
            outbox.record(session, ExtractFile(3, 1, 1), owner_id="bob"),
        ]
    assert {envelope.job_id for envelope in recorder.sent} == tried | set(others)
    # It is back: what waits falls due, and lets the others go.
    recorder.sent = [replace(envelope, delay_seconds=0) for envelope in recorder.sent]
    work(jobs, recorder, succeed)
    with database.transaction() as session:
        assert session.scalars(select(Job.state).distinct()).all() == ["succeeded"]
