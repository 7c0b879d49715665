"""A collection that two transforms read is done with a file when both are."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.errors import JobCancelledError
from app.security.principal import Principal
from app.services.overview import CollectionOverview, Overview
from app.storage.postgres.session import Database
from app.storage.postgres.tables import CollectionTransform, FileExtraction, Item, ItemEmbedding
from tests.support.domain import World

ADA = Principal("ada", "Ada")


class Twice:
    """One file that two transforms read into two datasets, each of them embedded."""

    def __init__(self, database: Database, world: World) -> None:
        self.database = database
        self.collection = world.collection()
        self.file = world.file(self.collection)
        self.embedded: list[int] = []
        self.transforms = [self._way(world) for _ in range(2)]

    def _way(self, world: World) -> int:
        """All the way: read by a transform, and two passages embedded."""
        dataset = world.dataset()
        transform = world.collection_transform(self.collection, dataset)
        embedded = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
        item_id, ended = world.item(dataset), datetime.now(UTC)
        with self.database.transaction() as session:
            item = session.get_one(Item, item_id)
            item.collection_transform_id, item.file_id = transform, self.file
            done = {"state": "succeeded", "chunk_count": 2, "job_id": uuid4(), "processed_at": ended}
            extraction = {"collection_transform_id": transform, "file_id": self.file, "file_version": 1}
            session.add(FileExtraction(**extraction, config_hash="c1", item_id=item_id, **done))
            embedding = {"embedded_dataset_id": embedded, "item_id": item_id}
            session.add(ItemEmbedding(**embedding, content_hash=item.content_hash, **done))
        self.embedded.append(embedded)
        return transform

    def becomes(self, number: int, **values: object) -> None:
        """What a transform, the first or the second, made of the file."""
        of_it = FileExtraction.collection_transform_id == self.transforms[number]
        with self.database.transaction() as session:
            session.execute(update(FileExtraction).where(of_it).values(**values))

    def is_set(self, number: int, **values: object) -> None:
        """How a transform is set up."""
        of_it = CollectionTransform.collection_transform_id == self.transforms[number]
        with self.database.transaction() as session:
            session.execute(update(CollectionTransform).where(of_it).values(**values))

    def seen(self) -> CollectionOverview:
        return Overview(self.database).collection(ADA, self.collection)


@pytest.fixture
def twice(database: Database, world: World) -> Twice:
    return Twice(database, world)


def counted(seen: CollectionOverview) -> tuple[int, int, int, int]:
    return seen.files.total, seen.files.done, seen.files.failed, seen.files.left


def test_each_dataset_counts_its_own_passages(twice: Twice) -> None:
    seen = twice.seen()
    found = [(one.embedded_dataset_id, one.passages.total, one.passages.done) for one in seen.embedded]
    assert found == [(embedded, 2, 2) for embedded in twice.embedded]
    assert (seen.items, seen.passages) == (2, 4)
    assert counted(seen) == (1, 1, 0, 0)
    assert seen.files.rate > 0
    assert not seen.is_busy


def test_a_file_is_not_done_while_one_of_them_has_not_read_it(twice: Twice) -> None:
    twice.becomes(1, state="pending")
    seen = twice.seen()
    assert counted(seen) == (1, 0, 0, 1)
    assert seen.is_busy


def test_a_file_that_one_of_them_cannot_read_is_failed_and_not_done(twice: Twice) -> None:
    twice.becomes(1, state="failed", error_code="unreadable")
    seen = twice.seen()
    assert counted(seen) == (1, 0, 1, 0)
    assert (seen.problem_count, seen.cancelled_count, seen.is_busy) == (1, 0, False)


def test_work_goes_on_at_a_file_that_one_of_them_cannot_read(twice: Twice) -> None:
    twice.becomes(0, state="failed", error_code="unreadable")
    twice.becomes(1, state="pending")
    seen = twice.seen()
    assert counted(seen) == (1, 0, 1, 0)
    assert (seen.files_to_read, seen.is_busy) == (1, True)


def test_a_file_counts_as_cancelled_only_where_nothing_else_is_wrong(twice: Twice) -> None:
    twice.becomes(0, state="failed", error_code=JobCancelledError.code)
    assert (twice.seen().problem_count, twice.seen().cancelled_count) == (0, 1)
    twice.becomes(1, state="failed", error_code="unreadable")
    assert (twice.seen().problem_count, twice.seen().cancelled_count) == (1, 0)


def test_a_changed_configuration_makes_files_new(twice: Twice) -> None:
    twice.is_set(1, config_hash="c2")
    seen = twice.seen()
    assert counted(seen) == (1, 0, 0, 1)
    assert seen.is_busy


def test_nobody_waits_for_a_disabled_transform(twice: Twice) -> None:
    twice.is_set(1, config_hash="c2", is_enabled=False)
    seen = twice.seen()
    assert counted(seen) == (1, 1, 0, 0)
    assert not seen.is_busy
