"""An operator replays a dead letter: the job starts again, with all that holds for any job."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import pytest

from app.errors import ExplorerError, ProviderUnavailableError, UnreadableFileError
from app.jobs.contracts import ExtractFile
from app.services.job_replay import revive
from app.services.jobs import Run
from brokers import CrashLoopError, dead_letter
from tasks.middleware import DeadLetters
from tests.integration.tasks.conftest import Pool
from tests.integration.tasks.test_scope import Start, message
from tests.support.domain import Recorder


class Script:
    """A handler that raises one error after the other, then finishes; notes what its row said meanwhile."""

    def __init__(self, pool: Pool, *errors: ExplorerError) -> None:
        self.pool, self.errors, self.seen = pool, list(errors), list[str]()

    def __call__(self, services: Any, run: Run, contract: ExtractFile) -> None:
        self.seen.append(self.pool.extraction().state)
        if self.errors:
            raise self.errors.pop(0)
        with services.jobs.database.transaction() as session:
            services.jobs.finish(session, run)


@pytest.fixture
def die(pool: Pool, start: Start) -> Callable[[Iterable[ExplorerError]], Script]:
    """Let the job die of its first error; the others are for what follows."""

    def begin(errors: Iterable[ExplorerError]) -> Script:
        script = Script(pool, *errors)
        start(script)
        pool.wait_for("dead")
        pool.rest()
        return script

    return begin


def replay(pool: Pool) -> None:
    (letter,) = pool.dead_letters()
    dead_letter.replay(pool.container.broker, letter.id, by="test")


BROKEN = UnreadableFileError("broken")


def test_a_replayed_letter_brings_its_job_to_its_end(pool: Pool, die: Any):
    script = die([BROKEN])
    replay(pool)
    job = pool.wait_for("succeeded")
    assert (job.publication, job.attempt, job.error_message) == (1, 1, None)
    assert script.seen == ["pending", "pending"], "the row still showed the failure"
    pool.rest()
    assert pool.dead_letters() == []


def test_a_replayed_job_that_fails_for_now_is_retried(pool: Pool, die: Any):
    script = die([BROKEN, ProviderUnavailableError("away"), ProviderUnavailableError("still away")])
    replay(pool)
    assert pool.wait_for("succeeded").attempt == 3
    assert len(script.seen) == 4


def test_a_replayed_job_may_die_and_be_replayed_again(pool: Pool, die: Any):
    script = die([BROKEN, BROKEN])
    replay(pool)
    pool.wait_for("pending" if False else "dead")
    pool.rest()
    assert pool.extraction().error_message == "broken"
    replay(pool)
    assert pool.wait_for("succeeded").publication == 2
    assert len(script.seen) == 3


def test_a_replayed_message_that_kills_its_workers_buries_its_job(pool: Pool, recorder: Recorder):
    job_id = pool.plan()
    give_up(pool, job_id)
    jobs = pool.container.services.jobs
    assert revive(jobs, job_id, publication=1)
    assert jobs.begin(job_id, "a worker that dies", publication=1) is not None
    give_up(pool, job_id)
    assert pool.job().state == "running", "the letter of the first message ended the run of the second"
    give_up(pool, job_id, replay_of={"depth": 1})
    assert pool.job().state == "dead"
    assert pool.extraction().state == "failed"
    assert [told.status for told in recorder.told][-1] == "failed"


def give_up(pool: Pool, job_id: UUID, **options: Any) -> None:
    letter = message(job_id)
    letter.options.update(options)
    DeadLetters(pool.container, "collections").after_dead_letter(
        pool.container.broker, letter, "crash-loop", CrashLoopError("3 runs started and never ended")
    )
