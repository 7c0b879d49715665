"""A worker of a new release that comes before its migrations: jobs wait, and lose no attempt."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from sqlalchemy import text

from app.container import Container
from app.jobs.contracts import ExtractFile
from app.services.jobs import Run
from tasks import scope
from tests.integration.tasks.conftest import Pool

SAID = "the migrations of this release are still to come"


def at_revision(container: Container, revision: str) -> str:
    """Set it; the one before."""
    with container.database.transaction() as session:
        before = session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        session.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": revision})
    return str(before)


def wait_said(caplog: pytest.LogCaptureFixture, times: int) -> None:
    deadline = time.monotonic() + 60
    while caplog.text.count(SAID) < times:
        assert time.monotonic() < deadline, caplog.text[-2000:]
        time.sleep(0.02)


@pytest.mark.parametrize("looks", [100, 1])
def test_jobs_wait_for_the_migrations_and_lose_no_attempt(
    container: Container,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    looks: int,
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(scope, "_LOOKS", looks)
    monkeypatch.setattr(scope, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(scope, "_AWAY_SECONDS", 0.2)
    runs: list[int] = []

    def extract(_services: Any, run: Run, _contract: ExtractFile) -> None:
        runs.append(run.attempt)

    pool.plan()
    newest = at_revision(container, "0001")
    worker = pool.start(extract)
    try:
        wait_said(caplog, 1)
        assert runs == []
        at_revision(container, newest)
        pool.rest()
    finally:
        at_revision(container, newest)  # else a thread would wait on
        worker.stop()
    assert runs == [1]
    assert pool.dead_letters() == []
