from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from time import sleep
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.container import Container
from app.errors import InputRefusedError, ProviderRefusedError, ProviderUnavailableError
from app.services.uploads import Upload
from app.storage.postgres.session import Database
from app.storage.postgres.tables import File
from tests.integration.jobs.incremental import ADA, Pipeline
from tests.support.domain import World


@pytest.fixture
def pipeline(container: Container, world: World) -> Pipeline:
    return Pipeline(container, world)


@pytest.mark.parametrize("content", ["alpha beta gamma", "delta epsilon"])
def test_a_file_deleted_and_uploaded_again_within_the_minute_is_there_once(pipeline: Pipeline, content: str):
    first = pipeline.upload("a.txt", "alpha beta gamma")
    pipeline.work()
    pipeline.check()
    pipeline.delete_file(first)
    assert pipeline.upload("a.txt", content) != first
    pipeline.work()
    assert pipeline.found(content) == [content]
    pipeline.check()


def test_a_batch_that_fails_in_the_middle_and_is_retried_at_once_is_done_whole(pipeline: Pipeline):
    pipeline.push("long", *(f"word{number}" for number in range(100)))
    pipeline.provider.meanwhile += [nothing, fail(ProviderUnavailableError("away"))]
    assert pipeline.work().count("embed_items") == 2
    (job,) = pipeline.jobs("embed_items")
    assert job.state == "succeeded"
    pipeline.check()


def test_a_batch_given_up_in_the_middle_is_done_whole_when_the_owner_retries_it(pipeline: Pipeline):
    pipeline.push("long", *(f"word{number}" for number in range(100)))
    pipeline.provider.meanwhile += [nothing, fail(ProviderRefusedError("no"))]
    pipeline.work()
    assert len(pipeline.points(pipeline.targets()[0].collection_name)) == 64
    assert pipeline.retry() == 1
    pipeline.work()
    pipeline.check()


def test_a_file_that_failed_and_is_retried_right_away_is_read(pipeline: Pipeline):
    pipeline.upload("a.txt", "alpha beta gamma")
    pipeline.reading.append(fail(InputRefusedError("it is damaged")))
    pipeline.work()
    assert pipeline.retry_files() == 1
    assert pipeline.retry_files() == 0  # it is under way
    pipeline.work()
    assert [job.state for job in pipeline.jobs("extract_file")] == ["dead", "succeeded"]
    assert pipeline.found("alpha") == ["alpha beta gamma"]
    pipeline.check()


def test_a_collection_transform_disabled_mid_run_leaves_the_rest_until_it_is_enabled(pipeline: Pipeline):
    for name in ("a.txt", "b.txt"):
        pipeline.upload(name, f"text of {name}")
    pipeline.reading.append(lambda: pipeline.enable_files(False))
    pipeline.work()
    assert [job.outcome for job in pipeline.jobs("extract_file")] == [
        {},
        {"skipped": "the transform is disabled"},
    ]
    pipeline.enable_files(True)
    pipeline.work()
    assert sorted(pipeline.found("text")) == ["text of a.txt", "text of b.txt"]
    pipeline.check()


def test_a_collection_transform_disabled_and_enabled_within_one_run_loses_nothing(pipeline: Pipeline):
    def again() -> None:
        pipeline.enable_files(False)
        pipeline.work()
        pipeline.enable_files(True)
        pipeline.work()

    for name in ("a.txt", "b.txt"):
        pipeline.upload(name, f"text of {name}")
    pipeline.reading.append(again)
    pipeline.work()
    assert sorted(pipeline.found("text")) == ["text of a.txt", "text of b.txt"]
    pipeline.check()


def test_a_dataset_transform_disabled_mid_run_leaves_the_rest_until_it_is_enabled(pipeline: Pipeline):
    push_two_batches(pipeline)
    pipeline.provider.meanwhile.append(lambda: pipeline.enable_items(False))
    pipeline.work()
    assert len(pipeline.points(pipeline.targets()[0].collection_name)) == 128
    pipeline.enable_items(True)
    pipeline.work()
    assert len(pipeline.embedded()) == 256
    pipeline.check()


def test_a_dataset_transform_disabled_and_enabled_within_one_run_loses_nothing(pipeline: Pipeline):
    def again() -> None:
        pipeline.enable_items(False)
        pipeline.work()
        pipeline.enable_items(True)
        pipeline.work()

    push_two_batches(pipeline)
    pipeline.provider.meanwhile.append(again)
    pipeline.work()
    pipeline.check()


def test_a_new_chunk_size_embeds_only_the_files_whose_chunks_it_changes(pipeline: Pipeline):
    pipeline.upload("short.txt", "a short text")
    pipeline.upload("long.txt", "one two three four five six seven. eight nine ten eleven twelve.")
    pipeline.work()
    assert len(pipeline.embedded()) == 2
    before = pipeline.versions("short.txt")
    pipeline.chunk_by(40)
    pipeline.work()
    assert pipeline.versions("short.txt") == before
    assert "a short text" not in (texts := pipeline.embedded())
    assert len(texts) == 2
    pipeline.check()


def test_an_embedder_removed_and_added_again_gets_an_index_of_its_own_again(
    container: Container, world: World
):
    pipeline = Pipeline(container, world, 8, 8)
    first, second = pipeline.embedders
    pipeline.push("item", "some text")
    pipeline.work()
    pipeline.check()
    pipeline.use(first)
    pipeline.use(first, second)
    pipeline.work()
    assert len(pipeline.indexes) == 3
    pipeline.check()


def test_an_embedder_removed_and_added_again_while_it_works_is_complete(container: Container, world: World):
    pipeline = Pipeline(container, world, 8, 8)
    first, second = pipeline.embedders

    def again() -> None:
        pipeline.use(second)
        pipeline.work()
        pipeline.use(first, second)
        pipeline.work()

    pipeline.push("item", "some text")
    pipeline.provider.meanwhile.append(again)
    pipeline.work()
    assert len(pipeline.targets()) == 2
    pipeline.check()


def test_embedders_of_different_dimensions_each_embed_every_text(container: Container, world: World):
    pipeline = Pipeline(container, world, 8, 16, 32)
    pipeline.upload("a.txt", "alpha beta")
    pipeline.push("item", "gamma delta")
    pipeline.work()
    assert sorted(pipeline.provider.embedded) == [
        (dimensions, text) for dimensions in (8, 16, 32) for text in ("alpha beta", "gamma delta")
    ]
    assert [pipeline.found("gamma", target=number)[0] for number in range(3)] == ["gamma delta"] * 3
    pipeline.check()


@pytest.mark.parametrize("moment", ["reading", "embedding"])
@pytest.mark.parametrize("swept", [True, False])
def test_a_dataset_deleted_while_its_jobs_run_leaves_nothing(pipeline: Pipeline, moment: str, swept: bool):
    def forget() -> None:
        pipeline.services.datasets.delete(ADA, pipeline.dataset)
        if swept:
            pipeline.work()

    for name in ("a.txt", "b.txt"):
        pipeline.upload(name, f"text of {name}")
    pipeline.moments(moment).append(forget)
    pipeline.work()
    assert not pipeline.moments(moment)
    assert (pipeline.targets(), pipeline.chunk_count()) == ([], 0)
    assert {job.state for job in pipeline.jobs()} == {"succeeded"}
    pipeline.check()


@pytest.mark.parametrize("moment", ["reading", "embedding"])
@pytest.mark.parametrize("swept", [True, False])
def test_a_collection_deleted_while_its_jobs_run_leaves_nothing(pipeline: Pipeline, moment: str, swept: bool):
    def forget() -> None:
        pipeline.services.collections.delete(ADA, pipeline.collection)
        if swept:
            pipeline.work()

    kept = "an item that was pushed"
    pipeline.push("kept", kept)
    pipeline.work()
    for name in ("a.txt", "b.txt"):
        pipeline.upload(name, f"text of {name}")
    pipeline.moments(moment).append(forget)
    pipeline.work()
    assert not pipeline.moments(moment)
    assert pipeline.found("text") == [kept]
    assert {job.state for job in pipeline.jobs()} == {"succeeded"}
    pipeline.check()


def test_an_upload_that_commits_after_its_transform_was_enabled_and_planned_is_read(pipeline: Pipeline):
    def enable() -> None:
        pipeline.enable_files(True)
        pipeline.work()

    pipeline.work()
    pipeline.enable_files(False)
    database = pipeline.container.database
    files: Any = pipeline.services.files
    slow = replace(files, database=Interrupted(database, enable))
    slow.upload(ADA, pipeline.collection, [Upload("late.txt", BytesIO(b"a late text"))])
    pipeline.work()
    assert pipeline.found("late") == ["a late text"]
    pipeline.check()


def test_a_retry_keeps_the_rows_that_stand_for_vectors_of_failed_runs(pipeline: Pipeline):
    item = pipeline.push("long", *(f"word{number}" for number in range(100)))
    pipeline.provider.meanwhile += [nothing, fail(ProviderRefusedError("no"))]
    pipeline.work()
    pipeline.retry()
    assert [row.state for row in pipeline.embeddings()] == ["pending"]
    pipeline.delete_item(item)
    pipeline.work()
    assert pipeline.points(pipeline.targets()[0].collection_name) == set()
    assert pipeline.embeddings() == []
    pipeline.check()


class Interrupted:
    """A database in which something is done elsewhere while the transaction that wrote a file is open."""

    def __init__(self, database: Database, meanwhile: Callable[[], None]) -> None:
        self._database, self._meanwhile = database, meanwhile

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with ThreadPoolExecutor(1) as elsewhere:
            with self._database.transaction() as session:
                yield session
                session.flush()
                done = None
                if any(isinstance(row, File) for row in session.identity_map.values()):
                    done = elsewhere.submit(self._meanwhile)
                    self._wait(done)
            if done is not None:
                done.result(timeout=60)

    def _wait(self, done: Future[None]) -> None:
        """Until it is done, or waits for a lock of ours: it goes on once we have committed."""
        while not done.done():
            with self._database.transaction() as session:
                if session.scalar(_WAITING):
                    return
            sleep(0.02)


_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def push_two_batches(pipeline: Pipeline) -> None:
    for title in ("first", "second"):
        pipeline.push(title, *(f"{title} {number}" for number in range(128)))


def nothing() -> None:
    """A call of the provider that goes well."""


def fail(error: Exception) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising
