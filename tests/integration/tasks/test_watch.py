from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.errors import UnavailableError
from app.jobs.contracts import ExtractFile
from app.pipeline import sandbox
from app.security.principal import Principal
from app.services.jobs import Run
from app.storage.postgres.tables import Job
from tasks.watch import RunStopped, Watch
from tests.integration.tasks.conftest import Pool
from tests.support.domain import Recorder

ADA = Principal("ada", "Ada")
Start = Callable[..., UUID]


def wait_until(true: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


class Busy:
    """A handler that works for ever in Python; notes that it began and how it ended."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended: list[type[BaseException]] = []
        self.runs: list[Run] = []

    def __call__(self, services: Any, run: Run, contract: ExtractFile) -> None:
        del services, contract
        self.runs.append(run)
        self.begun.set()
        try:
            for _ in range(6000):
                time.sleep(0.01)
        except BaseException as error:
            self.ended.append(type(error))
            raise


def test_a_run_whose_job_is_cancelled_is_stopped_wherever_it_is(pool: Pool, start: Start, recorder: Recorder):
    busy = Busy()
    job_id = start(busy)
    assert busy.begun.wait(30)
    pool.container.services.cancelling.job(ADA, job_id)
    wait_until(lambda: busy.ended)
    pool.rest()
    assert busy.ended == [RunStopped]
    assert pool.job().state == "cancelled"
    assert pool.dead_letters() == []
    failures = [event.error or "" for event in recorder.told if event.status == "failed"]
    assert [error.startswith("cancelled by its owner") for error in failures] == [True]


def test_a_worker_whose_job_was_taken_over_is_stopped(pool: Pool, start: Start):
    busy = Busy()
    job_id = start(busy)
    assert busy.begun.wait(30)
    taken = pool.container.services.jobs.begin(job_id, "another worker")
    assert taken is not None
    wait_until(lambda: busy.ended)
    pool.rest()
    assert (pool.job().state, pool.job().run_token) == ("running", taken.token)


def test_a_child_process_ends_with_the_run_that_waits_for_it(pool: Pool, start: Start):
    begun = threading.Event()
    children: list[int] = []

    def note(pid: int) -> None:
        children.append(pid)
        begun.set()

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        del services, run, contract
        sandbox.run_in_child(
            "tests.integration.tasks.test_watch:sleep_in_child",
            timeout_seconds=60,
            memory_bytes=2**30,
            on_progress=note,
        )

    job_id = start(extract)
    assert begun.wait(30)
    pool.container.services.cancelling.job(ADA, job_id)
    wait_until(lambda: not Path(f"/proc/{children[0]}").exists())
    pool.rest()
    assert pool.job().state == "cancelled"


def sleep_in_child(on_progress: Callable[[Any], None]) -> None:
    import os

    on_progress(os.getpid())
    time.sleep(60)


@pytest.fixture
def watch(pool: Pool) -> Watch:
    return Watch(lambda: pool.container.database)


@pytest.fixture
def run(pool: Pool) -> Run:
    begun = pool.container.services.jobs.begin(pool.plan(), "test")
    assert begun is not None
    return begun


def test_a_run_that_holds_its_job_is_left_alone(watch: Watch, run: Run):
    with watch.over(run):
        assert watch.look() == 0


def test_a_run_that_has_just_succeeded_may_finish_its_sentence(watch: Watch, run: Run, pool: Pool):
    with watch.over(run):
        with pool.container.database.transaction() as session:
            pool.container.services.jobs.finish(session, run)
        assert watch.look() == 0


def test_a_run_whose_job_is_gone_is_stopped(watch: Watch, run: Run, pool: Pool):
    with pool.container.database.transaction() as session:
        session.delete(session.get_one(Job, run.job_id))
    with pytest.raises(RunStopped), watch.over(run):
        assert watch.look() == 1
        time.sleep(0)


def test_an_exception_that_is_on_its_way_does_not_hit_what_follows_the_run(watch: Watch, run: Run):
    survived = 0
    for _ in range(200):
        try:
            with watch.over(run):
                watch._runs[run.token].stop()
        except RunStopped:
            pass
        for _ in range(100):
            survived += 1
    assert survived == 20_000
    assert watch._runs == {}


def test_the_watch_goes_on_when_postgres_comes_back(run: Run, pool: Pool):
    asked = threading.Event()
    away = iter([UnavailableError("Postgres: gone for a moment")])

    def database() -> Any:
        asked.set()
        if error := next(away, None):
            raise error
        return pool.container.database

    watch = Watch(database, period_seconds=0.05)
    pool.container.services.cancelling.job(ADA, run.job_id)
    watch.after_worker_boot(pool.container.broker, None)  # type: ignore[arg-type]
    try:
        with pytest.raises(RunStopped), watch.over(run):
            for _ in range(2000):
                time.sleep(0.01)
    finally:
        watch.after_worker_shutdown(pool.container.broker, None)  # type: ignore[arg-type]
    assert asked.is_set()
