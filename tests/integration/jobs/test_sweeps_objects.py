"""Rows whose stored object is gone: what waits for it fails in words, what is done stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from app.container import Container
from app.errors import UnavailableError
from app.jobs import stored_objects
from app.jobs.stored_objects import StoredObjects
from app.storage.postgres.tables import (
    File,
    FileExtraction,
    Reconciliation,
    Visualization,
    VisualizationTransform,
)
from tests.integration.jobs.test_sweeps import NO_AGE, cli, pass_an_hour, sweeps
from tests.support.domain import World


@pytest.fixture
def lost(container: Container, world: World) -> int:
    """A file without its object: one transform has read it, another is about to."""
    collection, dataset = world.collection(), world.dataset()
    file_id = world.file(collection)
    with container.database.transaction() as session:
        for state, code in (("succeeded", None), ("pending", None)):
            row = FileExtraction(
                collection_transform_id=world.collection_transform(collection, dataset),
                file_id=file_id,
                file_version=1,
                config_hash="c1",
                state=state,
                error_code=code,
                job_id=uuid4(),
            )
            session.add(row)
    return file_id


def outcomes(container: Container) -> Sequence[tuple[str, str | None, str | None]]:
    columns = (FileExtraction.state, FileExtraction.error_code, FileExtraction.error_message)
    ordered = select(*columns).order_by(FileExtraction.collection_transform_id)
    with container.database.transaction() as session:
        return [tuple(row) for row in session.execute(ordered)]


DONE = ("succeeded", None, None)
WAITS = ("pending", None, None)
LOST = ("failed", "object_missing", "the stored file is gone from the object store: upload it again")


def test_a_file_whose_object_is_gone_fails_where_it_was_not_read_yet(container: Container, lost: int):
    assert sweeps(container).run().files == [lost]
    assert outcomes(container) == [DONE, LOST]
    with container.database.transaction() as session:
        found = [row.found for row in session.scalars(select(Reconciliation))]
    assert [each["files_without_object"] for each in found if "files_without_object" in each] == [1]


def test_a_dry_run_names_the_files_and_changes_nothing(container: Container, lost: int):
    runner = cli(container)
    vars(container)["sweeps"] = sweeps(container)
    shown = runner.invoke(args=["reconcile", "--dry-run"]).output
    assert f"would fail what waits for it, its object is gone: file {lost}\n" in shown
    assert outcomes(container) == [DONE, WAITS]


def test_a_young_row_may_be_an_upload_in_progress(container: Container, lost: int):
    assert sweeps(container, timedelta(hours=1)).run().files == []


def test_an_object_that_came_while_the_bucket_was_listed_is_not_gone(
    container: Container, lost: int, monkeypatch: pytest.MonkeyPatch
):
    with container.database.transaction() as session:
        key = session.get_one(File, lost).object_key
    container.blobs.put_bytes(key, b"x", media_type="text/plain")
    monkeypatch.setattr(container.blobs, "list", lambda _prefix: iter(()))
    assert sweeps(container).run().files == []


def test_a_file_uploaded_again_since_it_was_looked_at_is_not_marked(container: Container, lost: int):
    objects = StoredObjects(container.database, container.blobs, min_age=NO_AGE)
    found = objects.compare()
    assert [row.id for row in found.files] == [lost]
    with container.database.transaction() as session:
        session.execute(update(File).values(object_key="files/new"))
    objects.mark(found)
    assert outcomes(container) == [DONE, WAITS]


def test_many_pages_on_both_sides_are_told_apart(
    container: Container, world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stored_objects, "_PAGE", 3)
    collection = world.collection()
    ids = [world.file(collection, name=f"{number}.txt") for number in range(11)]
    with container.database.transaction() as session:
        keys = {row.file_id: row.object_key for row in session.scalars(select(File))}
    for file_id in ids[::2]:
        container.blobs.put_bytes(keys[file_id], b"x", media_type="text/plain")
    forgotten = sorted(f"files/{uuid4()}" for _ in range(5))
    for key in forgotten:
        container.blobs.put_bytes(key, b"x", media_type="text/plain")
    asked, exists = list[str](), container.blobs.exists

    def ask(key: str) -> bool:
        asked.append(key)
        return exists(key)

    monkeypatch.setattr(container.blobs, "exists", ask)
    swept = sweeps(container).run()
    assert swept.objects == forgotten
    assert sorted(swept.files) == ids[1::2]
    assert len(asked) == 5, "it asked for objects that the listing had shown"


def test_a_map_fails_while_its_points_are_gone_and_is_shown_again_once_they_are_back(
    container: Container, world: World
):
    key = draw(container, world)
    assert len(sweeps(container).run().maps) == 1
    row = the_map(container)
    assert (row.status, row.points_key) == ("failed", key)
    assert row.error_message == "the points of this map are gone from the object store: build the map again"
    container.blobs.put_bytes(key, b"x", media_type="text/plain")
    pass_an_hour(container)
    swept = sweeps(container).run()
    assert (swept.maps, swept.maps_back, swept.objects) == ([], [row.visualization_id], [])
    row = the_map(container)
    assert (row.status, row.error_message) == ("completed", None)


def draw(container: Container, world: World) -> str:
    dataset = world.dataset()
    target = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    key = f"visualizations/1/{uuid4()}.arrow"
    with container.database.transaction() as session:
        transform = VisualizationTransform(owner_id="ada", title="map", embedded_dataset_id=target)
        session.add(transform)
        session.flush()
        session.add(
            Visualization(
                owner_id="ada",
                visualization_transform_id=transform.visualization_transform_id,
                status="completed",
                job_id=uuid4(),
                points_key=key,
            )
        )
    return key


def the_map(container: Container) -> Visualization:
    with container.database.transaction() as session:
        return session.scalars(select(Visualization)).one()


def test_a_server_that_is_away_does_not_hide_what_the_others_hold(
    container: Container, world: World, monkeypatch: pytest.MonkeyPatch
):
    def list_nothing(_prefix: str) -> None:
        raise UnavailableError("S3 is away")

    name = f"embedded-dataset-{uuid4().hex}"
    container.vectors.ensure_index(name, 3)
    monkeypatch.setattr(container.blobs, "list", list_nothing)
    with pytest.raises(UnavailableError, match="S3 is away"):
        sweeps(container).run()
    container.vectors.drop(name)
    with container.database.transaction() as session:
        row = session.scalars(select(Reconciliation)).one()
    assert name in row.found["unowned_indexes"]
    assert row.finished_at is not None
