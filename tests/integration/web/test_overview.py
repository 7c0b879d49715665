"""What the pages say about a collection is what its rows say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.errors import NotFoundError
from app.security.principal import Principal
from app.services.overview import Overview
from app.services.reading import Reading
from app.storage.postgres.queries.pace import progress
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    CollectionTransform,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
    Visualization,
    VisualizationTransform,
)
from tests.support.domain import World

ADA, BOB = Principal("ada", "Ada"), Principal("bob", "Bob")


def _extraction(transform_id: int, file_id: int, state: str, **more: object) -> FileExtraction:
    values = {"file_version": 1, "config_hash": "c1", "job_id": uuid4(), "processed_at": datetime.now(UTC)}
    return FileExtraction(
        collection_transform_id=transform_id, file_id=file_id, state=state, **{**values, **more}
    )


def test_files_are_counted_by_what_became_of_their_present_version(database: Database, world: World) -> None:
    collection = world.collection()
    transform = world.collection_transform(collection, world.dataset())
    read, failed, edited, _untouched = (world.file(collection, f"{n}.txt") for n in range(4))
    with database.transaction() as session:
        session.add(_extraction(transform, read, "succeeded"))
        session.add(_extraction(transform, failed, "failed", error_message="it is encrypted"))
        session.add(_extraction(transform, edited, "succeeded"))
        session.execute(update(File).where(File.file_id == edited).values(version=2))
    files = Overview(database).collection(ADA, collection).files
    assert (files.total, files.done, files.failed, files.left) == (4, 1, 1, 2)


def test_passages_count_as_embedded_only_in_their_present_content(database: Database, world: World) -> None:
    collection, dataset = world.collection(), world.dataset()
    transform = world.collection_transform(collection, dataset)
    items = [world.item(dataset, ["one", "two", "three"]) for _ in range(2)]
    embedded = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    with database.transaction() as session:
        for number, item_id in enumerate(items):
            file_id = world.file(collection, f"{number}.txt")
            item = session.get_one(Item, item_id)
            item.collection_transform_id, item.file_id = transform, file_id
            session.add(
                ItemEmbedding(
                    embedded_dataset_id=embedded,
                    item_id=item_id,
                    content_hash=item.content_hash if number == 0 else "older",
                    state="succeeded",
                    job_id=uuid4(),
                    chunk_count=3,
                    processed_at=datetime.now(UTC) - timedelta(seconds=10),
                )
            )
    found = Overview(database).collection(ADA, collection)
    assert (found.items, found.passages) == (2, 6)
    passages = found.embedded[0].passages
    assert (passages.done, passages.left) == (3, 3)
    assert passages.eta_seconds == pytest.approx(10, rel=0.2)
    assert found.is_busy
    assert found.searchable_ids == [embedded]


def test_an_older_map_stays_open_while_a_newer_one_fails(database: Database, world: World) -> None:
    collection, dataset = world.collection(), world.dataset()
    world.collection_transform(collection, dataset)
    embedded = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    with database.transaction() as session:
        transform = VisualizationTransform(owner_id="ada", title="m", embedded_dataset_id=embedded)
        session.add(transform)
        session.flush()
        runs = [
            Visualization(
                owner_id="ada",
                visualization_transform_id=transform.visualization_transform_id,
                status=status,
                job_id=uuid4(),
                error_message="out of memory" if status == "failed" else None,
            )
            for status in ("completed", "failed")
        ]
        for run in runs:
            session.add(run)
            session.flush()
        ready = runs[0].visualization_id
    found = Overview(database).collection(ADA, collection)
    assert [(one.status, one.error_message, one.ready_id) for one in found.maps] == [
        ("failed", "out of memory", ready)
    ]
    assert found.problem_count == 1


def test_nothing_of_another_owner_is_seen(database: Database, world: World) -> None:
    collection, dataset = world.collection(), world.dataset()
    item = world.item(dataset, ["secret"])
    reading = Reading(database)
    [span] = reading.document(ADA, item).spans
    World(database, "bob")
    assert Overview(database).collections(BOB) == []
    assert reading.passages(BOB, [span.chunk_id]) == []
    assert reading.files(BOB, collection).total == 0
    assert reading.facets(BOB).media_types == ()
    with pytest.raises(NotFoundError):
        Overview(database).collection(BOB, collection)
    with pytest.raises(NotFoundError):
        reading.document(BOB, item)


def test_passages_come_in_the_order_asked_for_without_the_unknown(database: Database, world: World) -> None:
    item = world.item(world.dataset(), ["one", "two", "three"])
    reading = Reading(database)
    ids = [span.chunk_id for span in reading.document(ADA, item).spans]
    found = reading.passages(ADA, [ids[2], uuid4(), ids[0]])
    assert [one.text for one in found] == ["three", "one"]


def test_files_are_narrowed_by_state_and_name(database: Database, world: World) -> None:
    collection = world.collection()
    transform = world.collection_transform(collection, world.dataset())
    good, bad, _ = (world.file(collection, name) for name in ("a_1.txt", "b_2.txt", "c.txt"))
    with database.transaction() as session:
        session.add(_extraction(transform, good, "succeeded", chunk_count=4))
        session.add(_extraction(transform, bad, "failed", error_message="it is empty"))
    reading = Reading(database)
    [failed] = reading.files(ADA, collection, state="failed").files
    assert (failed.name, failed.state, failed.error_message) == ("b_2.txt", "failed", "it is empty")
    assert [one.state for one in reading.files(ADA, collection, state="waiting").files] == ["waiting"]
    assert reading.files(ADA, collection, name="_").total == 2
    page = reading.files(ADA, collection, limit=1, offset=1)
    assert ([one.name for one in page.files], page.total) == (["b_2.txt"], 3)


def test_the_list_of_files_says_what_the_counts_say(database: Database, world: World) -> None:
    """Whatever several transforms, an older configuration and a disabled one made of each."""
    collection = world.collection()
    first, second, off = (world.collection_transform(collection, world.dataset()) for _ in range(3))
    made: dict[str, list[tuple[int, str, dict[str, str]]]] = {
        "read.txt": [(first, "succeeded", {}), (second, "succeeded", {})],
        "failed.txt": [(first, "failed", {"error_message": "it is empty"}), (second, "succeeded", {})],
        "older.txt": [(first, "succeeded", {}), (second, "failed", {"config_hash": "c0"})],
        "half.txt": [(first, "succeeded", {})],
        "stopped.txt": [(first, "failed", {"error_code": "cancelled"}), (second, "succeeded", {})],
        "both.txt": [
            (first, "failed", {"error_message": "it is broken"}),
            (second, "failed", {"error_code": "cancelled"}),
        ],
        "new.txt": [],
    }
    with database.transaction() as session:
        transform = session.get_one(CollectionTransform, off)
        transform.is_enabled = False
    for name, outcomes in made.items():
        file = world.file(collection, name)
        with database.transaction() as session:
            session.add_all(_extraction(key, file, state, **more) for key, state, more in outcomes)
    reading, counted = Reading(database), Overview(database).collection(ADA, collection).files
    states = {one.name: one.state for one in reading.files(ADA, collection).files}
    assert states == {
        "read.txt": "read", "failed.txt": "failed", "older.txt": "waiting", "half.txt": "waiting",
        "stopped.txt": "cancelled", "both.txt": "failed", "new.txt": "waiting",
    }  # fmt: skip
    narrowed = [reading.files(ADA, collection, state=state) for state in ("read", "failed", "waiting")]
    assert [page.total for page in narrowed] == [counted.done, counted.failed, counted.left] == [1, 3, 3]
    causes = {one.name: one.error_message for one in narrowed[1].files}
    assert (causes["failed.txt"], causes["both.txt"]) == ("it is empty", "it is broken")


def test_no_time_is_left_when_nothing_moves() -> None:
    assert progress("files", total=10, done=1).eta_seconds is None
    assert progress("files", total=10, done=8, failed=5).left == 0
