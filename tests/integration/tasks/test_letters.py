"""Dead letters beside the rows of their jobs, on a real stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import UnavailableError
from app.jobs import letters
from app.jobs.contracts import ExtractFile
from app.jobs.letters import LettersAndRows, LettersFound
from app.jobs.sweeps import Sweeps
from app.services.burial import Burial
from app.storage.postgres.tables import FileExtraction, Job, Reconciliation
from app.storage.s3 import BlobStore
from brokers import dead_letter
from tests.integration.tasks.conftest import Pool
from tests.support.domain import Recorder, World

Store = Callable[..., int]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "_PATIENCE", timedelta(0))


@pytest.fixture
def store(pool: Pool) -> Iterator[Store]:
    """Store the dead letter of a job that has no row yet; returns the letter's id."""
    worker = pool.start(lambda *_: None)

    def put(job_id: UUID | None, message_id: str | None = None, **options: Any) -> int:
        pool.container.broker.enqueue(
            dramatiq.Message(
                queue_name=ExtractFile.queue,
                actor_name="an actor of tomorrow",
                args=(),
                kwargs={"job_id": str(job_id)} if job_id else {},
                options=options,
                message_id=message_id or str(job_id),
            )
        )
        pool.rest()
        return pool.dead_letters()[0].id

    yield put
    worker.stop()


def add_job(pool: Pool, job_id: UUID, state: str, publication: int = 0, **values: Any) -> None:
    """The row of a file's job, and the file's row that waits for it."""
    with pool.container.database.transaction() as session:
        session.add(
            Job(
                job_id=job_id,
                owner_id="ada",
                kind=ExtractFile.kind,
                unique_key=str(job_id),
                queue=ExtractFile.queue,
                arguments=ExtractFile(pool.transform, pool.file_id, 1).arguments(),
                state=state,
                publication=publication,
                **values,
            )
        )
        session.merge(
            FileExtraction(
                collection_transform_id=pool.transform,
                file_id=pool.file_id,
                file_version=1,
                config_hash="c1",
                state="pending",
                job_id=job_id,
            )
        )


def both(container: Container) -> LettersAndRows:
    burial = Burial(container.services.jobs, container.feed)
    return LettersAndRows(container.database, container.broker, burial)


def compare(pool: Pool, *, dry_run: bool = False) -> LettersFound:
    return both(pool.container).compare(dry_run=dry_run)


@pytest.mark.parametrize("state", ["pending", "running", "retrying"])
def test_a_job_whose_worker_died_between_letter_and_row_is_ended(
    pool: Pool, store: Store, recorder: Recorder, state: str
):
    job_id = uuid4()
    letter = store(job_id)
    add_job(pool, job_id, state)
    assert compare(pool, dry_run=True) == LettersFound([letter], [], [])
    assert pool.job().state == state
    assert compare(pool) == LettersFound([letter], [], [])
    assert pool.job().state == "dead"
    row = pool.extraction()
    assert row.state == "failed"
    assert "given up by the broker (unknown-actor)" in str(row.error_message)
    assert [told.status for told in recorder.told][-1] == "failed"
    assert compare(pool) == LettersFound([], [], [])
    assert [one.id for one in pool.dead_letters()] == [letter]


def test_a_job_that_was_sent_again_since_is_left_to_its_newer_message(pool: Pool, store: Store):
    job_id = uuid4()
    store(job_id)
    add_job(pool, job_id, "running", publication=1)
    assert compare(pool, dry_run=True) == compare(pool) == LettersFound([], [], [])
    assert pool.job().state == "running"


def test_a_strangers_letter_whose_id_is_that_of_a_job_is_none_of_it(pool: Pool, store: Store):
    job_id = uuid4()
    store(None, message_id=str(job_id))
    add_job(pool, job_id, "running")
    assert compare(pool) == LettersFound([], [], [])
    assert pool.job().state == "running"


def test_the_letter_of_a_replay_ends_the_run_that_the_replay_began(pool: Pool, store: Store):
    job_id = uuid4()
    letter = store(job_id, message_id="a successor", replay_of={"depth": 1})
    add_job(pool, job_id, "running", publication=1)
    assert compare(pool).of_active == [letter]
    assert pool.job().state == "dead"


def test_a_letter_that_was_stored_this_moment_is_left_to_its_worker(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(letters, "_PATIENCE", timedelta(minutes=1))
    job_id = uuid4()
    store(job_id)
    add_job(pool, job_id, "running")
    assert compare(pool) == LettersFound([], [], [])


def test_dead_jobs_that_have_no_letter_are_named_unless_a_person_ended_it(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(letters, "_PAGE", 1)  # pages of one
    first, discarded, without = uuid4(), uuid4(), uuid4()
    store(first)
    dead_letter.discard(pool.container.broker, store(discarded), by="test")
    for job_id in (first, discarded, without):
        add_job(pool, job_id, "dead", finished_at=datetime.now(UTC))
    before_any_letter = datetime.now(UTC) - timedelta(days=1)
    add_job(pool, uuid4(), "dead", finished_at=before_any_letter)
    assert compare(pool) == LettersFound([], [], [without])


def test_a_letter_whose_job_is_gone_is_kept_and_written_down(
    pool: Pool, store: Store, container: Container, world: World
):
    letter = store(uuid4())
    blobs = BlobStore(replace(container.blobs.options, bucket=f"test-{uuid4().hex[:12]}"))
    blobs.ensure_bucket()
    sweeps = Sweeps(container.database, container.outbox, blobs, container.vectors, both(container))
    assert list(sweeps.run(dry_run=True).letters_without_job) == [letter]
    sweeps.run()
    with container.database.transaction() as session:
        found = session.scalars(select(Reconciliation.found)).one()
    assert (found["letters_without_job"], found["unowned_letters"]) == (1, [letter])
    assert [one.id for one in pool.dead_letters()] == [letter]


def test_nats_without_its_streams_is_a_server_that_is_away(pool: Pool):
    connection = pool.container.broker.connection
    connection.run(connection.session().api("STREAM.DELETE.DLQ_TRANSFORMS"))
    with pytest.raises(UnavailableError, match="NATS"):
        compare(pool)
