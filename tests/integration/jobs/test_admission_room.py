"""How many held jobs are let go ahead of the workers."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, update

from app.jobs.admission import READY_AHEAD
from app.jobs.contracts import COLLECTIONS, ExtractFile
from app.jobs.outbox import Outbox
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
