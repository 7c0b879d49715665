from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import dramatiq
import pytest
from dramatiq.middleware import Shutdown
from prometheus_client import REGISTRY

from app.errors import (
    ProviderPausedError,
    ProviderUnavailableError,
    UnavailableError,
    UnreadableFileError,
)
from app.jobs.contracts import ExtractFile, PlanCollectionTransform
from app.jobs.policy import MAX_ATTEMPTS, Policy
from app.security.principal import Principal
from app.services import jobs
from app.services.jobs import Run
from app.storage.postgres.tables import Job
from tasks import scope
from tests.integration.tasks.conftest import Pool
from tests.support.domain import Recorder

Start = Callable[..., UUID]


def finish(services: Any, run: Run) -> None:
    with services.jobs.database.transaction() as session:
        services.jobs.finish(session, run)


def test_a_job_that_works_succeeds_and_leaves_the_stream(pool: Pool, start: Start):
    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        assert contract == ExtractFile(pool.transform, pool.file_id, 1)
        finish(services, run)

    start(extract)
    assert pool.wait_for("succeeded").attempt == 1
    pool.rest()
    assert pool.dead_letters() == []


def test_a_transient_error_shows_as_retrying_with_its_cause_and_then_goes_on(
    container: Any, pool: Pool, start: Start
):
    container.policies.backoff_seconds = (1.0, 1.0, 1.0, 1.0)
    failures = iter([ProviderUnavailableError("429: slow down")])

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        del contract
        if error := next(failures, None):
            raise error
        finish(services, run)

    start(extract)
    waiting = pool.wait_for("retrying")
    assert (waiting.error_code, waiting.error_message) == ("provider_unavailable", "429: slow down")
    done = pool.wait_for("succeeded")
    assert (done.attempt, done.error_message) == (2, None)
    assert pool.dead_letters() == []


def test_a_job_waits_for_a_provider_that_is_not_called_and_loses_no_attempt(
    pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scope, "_SHORTEST_WAIT_SECONDS", 0.1)
    runs: list[int] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        del contract
        runs.append(run.attempt)
        if len(runs) <= MAX_ATTEMPTS + 1:
            raise ProviderPausedError("it is left alone")
        if len(runs) == MAX_ATTEMPTS + 2:
            raise ProviderUnavailableError("it fails")
        finish(services, run)

    start(extract)
    waiting = pool.wait_for("retrying")
    assert (waiting.error_code, waiting.error_message) == ("provider_paused", "it is left alone")
    assert pool.wait_for("succeeded", seconds=60).attempt == 2
    assert runs == [1] * (MAX_ATTEMPTS + 2) + [2]
    pool.rest()
    assert pool.dead_letters() == []


def test_a_job_that_has_waited_for_a_day_fails_as_others_do(
    pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jobs, "PATIENCE", timedelta(0))

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        raise ProviderPausedError("it is left alone")

    start(extract)
    dead = pool.wait_for("dead", seconds=60)
    assert (dead.attempt, dead.error_code) == (MAX_ATTEMPTS, "provider_paused")


def test_a_job_that_finds_postgres_away_before_it_begins_loses_no_attempt(
    pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scope, "_AWAY_SECONDS", 0.1)
    begin, refused = jobs.Jobs.begin, list[UUID]()

    def away(self: jobs.Jobs, job_id: UUID, *more: Any, **which: Any) -> Run | None:
        if which["kind"] == ExtractFile.kind and len(refused) <= MAX_ATTEMPTS + 1:
            refused.append(job_id)
            raise UnavailableError("Postgres: the server is starting")
        return begin(self, job_id, *more, **which)

    monkeypatch.setattr(jobs.Jobs, "begin", away)
    runs: list[int] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        runs.append(run.attempt)
        finish(services, run)

    start(extract)
    assert pool.wait_for("succeeded").attempt == 1
    pool.rest()
    assert (runs, len(refused)) == ([1], MAX_ATTEMPTS + 2)
    assert pool.dead_letters() == []


def test_a_job_that_can_not_be_put_off_as_postgres_is_away_comes_again_as_it_was(
    pool: Pool, start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scope, "_AWAY_SECONDS", 0.1)
    away = UnavailableError("Postgres: the server is starting")
    monkeypatch.setattr(jobs.Jobs, "put_off", Mock(side_effect=away))
    runs: list[int] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        runs.append(run.attempt)
        if len(runs) <= MAX_ATTEMPTS:
            raise ProviderPausedError("it is left alone")
        finish(services, run)

    start(extract)
    assert pool.wait_for("succeeded").attempt == 1
    assert runs == [1] * (MAX_ATTEMPTS + 1)


def test_runs_that_a_shutdown_interrupts_cost_no_attempt_and_are_no_successes(
    pool: Pool, start: Start, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "tasks.scope")
    before = {status: ended(status) for status in ("success", "interrupted", "failed")}
    waits = REGISTRY.get_sample_value("worker_job_wait_seconds_count", {"worker": "collections"}) or 0
    runs: list[int] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        runs.append(run.attempt)
        if len(runs) <= MAX_ATTEMPTS + 1:
            raise Shutdown
        finish(services, run)

    start(extract)
    assert pool.wait_for("succeeded").attempt == 1
    pool.rest()
    assert runs == [1] * (MAX_ATTEMPTS + 2)
    counted = {status: ended(status) - number for status, number in before.items()}
    assert counted == {"success": 1, "interrupted": MAX_ATTEMPTS + 1, "failed": 0}
    told = [getattr(line, "status", "") for line in caplog.records if line.message == "run ended"]
    assert told.count("interrupted") == MAX_ATTEMPTS + 1
    # That of the plan and that of the file, each once.
    assert REGISTRY.get_sample_value("worker_job_wait_seconds_count", {"worker": "collections"}) == waits + 2


def ended(status: str) -> float:
    labels = {"worker": "collections", "kind": ExtractFile.kind, "status": status}
    return REGISTRY.get_sample_value("worker_jobs_total", labels) or 0


def test_a_permanent_error_is_dead_at_once_with_row_letter_and_event(
    pool: Pool, start: Start, recorder: Recorder
):
    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        raise UnreadableFileError("the file is password-protected")

    job_id = start(extract)
    assert pool.wait_for("dead").attempt == 1
    pool.rest()
    (letter,) = pool.dead_letters()
    assert (letter.reason, letter.message_id) == ("permanent-error", str(job_id))
    row = pool.extraction()
    assert (row.state, row.error_code) == ("failed", "unreadable_file")
    assert row.error_message == pool.job().error_message == "the file is password-protected"
    (event,) = [told for told in recorder.told if told.status == "failed"]
    assert (event.transform_type, event.transform_id, event.error) == (
        "collection", pool.transform, "the file is password-protected",
    )  # fmt: skip


def test_the_fifth_failure_is_the_last(pool: Pool, start: Start):
    runs: list[int] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        runs.append(run.attempt)
        raise ProviderUnavailableError("still away")

    start(extract)
    pool.wait_for("dead")
    pool.rest()
    assert runs == [1, 2, 3, 4, 5]
    assert [letter.reason for letter in pool.dead_letters()] == ["attempts-exhausted"]
    assert pool.extraction().state == "failed"


def test_an_error_nobody_thought_of_is_retried_with_its_name(container: Any, pool: Pool, start: Start):
    container.policies.backoff_seconds = (5.0, 5.0, 5.0, 5.0)

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        raise ZeroDivisionError("division by zero")

    start(extract)
    assert pool.wait_for("retrying").error_message == "unexpected ZeroDivisionError: division by zero"


def test_a_run_over_its_time_limit_is_stopped_and_retried(container: Any, pool: Pool, start: Start):
    container.policies.backoff_seconds = (5.0, 5.0, 5.0, 5.0)

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        for _ in range(1000):
            time.sleep(0.01)

    start(extract, policy=Policy(time_limit_ms=200))
    assert pool.wait_for("retrying").error_message == "the run passed its time limit"


def test_a_cancelled_job_ends_quietly_at_its_next_write(pool: Pool, start: Start):
    begun, cancelled = threading.Event(), threading.Event()

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        begun.set()
        assert cancelled.wait(30)
        finish(services, run)

    job_id = start(extract)
    assert begun.wait(30)
    pool.container.services.cancelling.job(Principal("ada", "Ada"), job_id)
    cancelled.set()
    pool.rest()
    assert pool.job().state == "cancelled"
    assert pool.dead_letters() == []


@pytest.mark.parametrize("error", [UnreadableFileError("broken"), ProviderUnavailableError("away")])
def test_a_failure_after_the_cancellation_changes_nothing(pool: Pool, start: Start, error: Exception):
    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        services.cancelling.job(Principal("ada", "Ada"), run.job_id)
        raise error

    start(extract)
    pool.wait_for("cancelled")
    pool.rest()
    assert pool.job().state == "cancelled"
    assert pool.extraction().error_code == "cancelled"


def test_a_message_of_an_older_publication_runs_nothing(pool: Pool, start: Start):
    runs: list[UUID] = []

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        runs.append(run.job_id)
        finish(services, run)

    job_id = start(extract)
    pool.wait_for("succeeded")
    pool.container.broker.enqueue(message(job_id, publication=3))
    pool.rest()
    assert runs == [job_id]


def test_a_message_of_a_newer_release_dies_and_takes_its_job_along(pool: Pool, start: Start):
    gate = threading.Event()

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        gate.wait(10)
        finish(services, run)

    job_id = start(extract)
    pool.container.broker.enqueue(message(job_id, version=2))
    dead = pool.wait_for("dead")
    gate.set()
    assert dead.error_message is not None
    assert "newer release" in dead.error_message
    assert pool.extraction().state == "failed"
    pool.rest()
    assert pool.job().state == "dead"  # the run that was on its way wrote nothing over it


def message(job_id: UUID, **more: int) -> dramatiq.Message[Any]:
    return dramatiq.Message(
        queue_name=ExtractFile.queue,
        actor_name=ExtractFile.kind,
        args=(),
        kwargs={"job_id": str(job_id), **more},
        options={},
    )


def test_a_message_that_names_a_job_of_another_kind_starts_nothing(
    pool: Pool, request: pytest.FixtureRequest
):
    plan, job_id = PlanCollectionTransform(pool.transform), uuid4()
    row = Job(
        job_id=job_id, owner_id="ada", kind=plan.kind, unique_key=plan.unique_key, queue=plan.queue,
        arguments=plan.arguments(), state="pending",
    )  # fmt: skip
    with pool.container.database.transaction() as session:
        session.add(row)
    worker = pool.start(lambda *_: None)
    request.addfinalizer(worker.stop)
    pool.container.broker.enqueue(message(job_id))
    pool.rest()
    assert pool.dead_letters() == []
    with pool.container.database.transaction() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.attempt) == ("pending", 0)


def test_a_dead_job_whose_letter_was_never_stored_gets_one_when_its_message_comes_back(
    container: Any, pool: Pool, request: pytest.FixtureRequest
):
    job_id = (
        pool.plan()
    )  # its message waits on the stream; the worker that took it died after writing the row
    with container.database.transaction() as session:
        run = container.services.jobs.begin(job_id, "gone")
        container.services.jobs.fail(session, run, UnreadableFileError("broken"))
    worker = pool.start(lambda *_: pytest.fail("a dead job ran"))
    request.addfinalizer(worker.stop)
    pool.rest()
    (letter,) = pool.dead_letters()
    assert (letter.message_id, letter.error_message) == (str(job_id), "broken")
    words = {"job_id": str(job_id), "publication": 0}
    container.broker.enqueue(dramatiq.Message(ExtractFile.queue, ExtractFile.kind, (), words, {}))
    pool.rest()
    assert len(pool.dead_letters()) == 1
    assert (pool.job().state, pool.job().error_message) == ("dead", "broken")
