from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update

from app.cli import register
from app.container import Container
from app.jobs.contracts import ExtractFile
from app.jobs.outbox import Outbox
from app.jobs.policy import Policies
from app.jobs.reconcile import Reconciler
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job, Reconciliation
from tests.support.domain import Recorder, World

LONG_AGO = datetime.now(UTC) - timedelta(days=1)
NOTHING = {"unpublished": 0, "overdue": 0, "lost_workers": 0}


@pytest.fixture
def reconciler(database: Database, world: World, recorder: Recorder) -> Reconciler:
    return Reconciler(database, recorder, policies=Policies(processing_timeout_seconds=60))


def written(database: Database) -> Sequence[Reconciliation]:
    with database.transaction() as session:
        return session.scalars(select(Reconciliation).order_by(Reconciliation.reconciliation_id)).all()


def lose_a_job(database: Database, outbox: Outbox) -> None:
    with database.transaction() as session:
        outbox.record(session, ExtractFile(1, 2, 1), owner_id="ada")
    with database.transaction() as session:
        session.execute(update(Job).values(updated_at=LONG_AGO))


def test_a_pass_that_found_something_is_written_down(
    database: Database, outbox: Outbox, reconciler: Reconciler
):
    reconciler.run()
    lose_a_job(database, outbox)
    reconciler.run()
    first, second = written(database)
    assert first.found == NOTHING
    named = second.found.pop("job_ids")
    assert second.found == NOTHING | {"unpublished": 1}
    with database.transaction() as session:
        assert named == {"unpublished": [str(job_id) for job_id in session.scalars(select(Job.job_id))]}
    assert second.finished_at is not None
    assert second.started_at <= second.finished_at


def test_passes_that_find_nothing_are_written_down_once_an_hour(database: Database, reconciler: Reconciler):
    reconciler.run()
    reconciler.run()
    assert len(written(database)) == 1
    with database.transaction() as session:
        session.execute(update(Reconciliation).values(started_at=datetime.now(UTC) - timedelta(minutes=61)))
    reconciler.run()
    assert len(written(database)) == 2


def test_what_is_older_than_30_days_is_forgotten(database: Database, reconciler: Reconciler):
    reconciler.run()
    with database.transaction() as session:
        session.execute(update(Reconciliation).values(started_at=datetime.now(UTC) - timedelta(days=31)))
    reconciler.run()
    assert [row.started_at.date() for row in written(database)] == [datetime.now(UTC).date()]


def test_a_dry_run_is_not_written_down_and_names_the_jobs(
    database: Database, outbox: Outbox, reconciler: Reconciler
):
    lose_a_job(database, outbox)
    finding = reconciler.run(dry_run=True)
    assert finding is not None
    with database.transaction() as session:
        assert finding.job_ids["unpublished"] == list(session.scalars(select(Job.job_id)))
    assert not written(database)


def test_the_command_shows_what_was_written_down_newest_first(
    container: Container, outbox: Outbox, reconciler: Reconciler
):
    app = Flask("test")
    register(app, container)
    history = app.test_cli_runner().invoke
    assert "no pass was written down yet" in history(args=["reconcile", "--history"]).output
    reconciler.run()
    lose_a_job(container.database, outbox)
    reconciler.run()
    newest, oldest = history(args=["reconcile", "--history"]).output.splitlines()
    assert re.search(r"s\): unpublished 1 \([0-9a-f-]{36}\)$", newest)
    assert oldest.endswith("): nothing")
    shown = history(args=["reconcile", "--history", "--json", "--limit", "1"]).output
    assert json.loads(shown)["found"]["unpublished"] == 1
