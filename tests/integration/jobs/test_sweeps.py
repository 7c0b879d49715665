from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import select, update

from app.cli import register
from app.container import Container
from app.jobs import stored_objects
from app.jobs.contracts import Contract, DropVectorIndex, ExtractFile, PlanCollectionTransform
from app.jobs.sweeps import Sweeps, Swept
from app.storage.postgres.tables import (
    CollectionTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    ItemEmbedding,
    Job,
    Reconciliation,
)
from tasks import collections, datasets
from tests.support.clocks import Ahead
from tests.support.domain import World

LONG_AGO = datetime.now(UTC) - timedelta(days=1)
NO_AGE = timedelta(seconds=-10)  # the clock of the object store may be a little ahead


def sweeps(container: Container, min_age: timedelta = NO_AGE) -> Sweeps:
    return Sweeps(container.database, container.outbox, container.blobs, container.vectors, min_age=min_age)


def recorded(container: Container) -> list[tuple[str, dict[str, object]]]:
    with container.database.transaction() as session:
        jobs = session.scalars(select(Job).where(Job.state == "pending").order_by(Job.kind))
        return [(job.kind, job.arguments) for job in jobs]


def set_jobs(container: Container, **values: object) -> None:
    with container.database.transaction() as session:
        session.execute(update(Job).values(**values))


def pass_an_hour(container: Container) -> None:
    with container.database.transaction() as session:
        earlier = Reconciliation.started_at - timedelta(minutes=61)
        session.execute(update(Reconciliation).values(started_at=earlier))


def work(container: Container) -> None:
    """Carry out every recorded job."""
    entries = collections.handlers.entries | datasets.handlers.entries
    with container.database.transaction() as session:
        job_ids = session.scalars(select(Job.job_id).where(Job.state == "pending")).all()
    for job_id in job_ids:
        run = container.services.jobs.begin(job_id, "test")
        assert run is not None
        entries[run.contract.kind].function(container.services, run, run.contract)


@pytest.fixture
def waiting_file(container: Container, world: World) -> int:
    """A file whose row waits for a job that is active; returns the transform."""
    collection = world.collection()
    transform = world.collection_transform(collection, world.dataset())
    file_id = world.file(collection)
    with container.database.transaction() as session:
        key = session.get_one(File, file_id).object_key
    container.blobs.put_bytes(key, b"x", media_type="text/plain")
    with container.database.transaction() as session:
        job_id = container.outbox.record(session, ExtractFile(transform, file_id, 1), owner_id="ada")
        session.add(
            FileExtraction(
                collection_transform_id=transform,
                file_id=file_id,
                file_version=1,
                config_hash="c1",
                state="pending",
                job_id=job_id,
            )
        )
    return transform


def test_a_file_that_waits_for_an_active_job_is_not_planned_again(container: Container, waiting_file: int):
    assert sweeps(container).run().collection_transforms == []


def test_a_file_whose_job_is_over_is_planned_again_once(container: Container, waiting_file: int):
    set_jobs(container, state="succeeded")
    assert sweeps(container).run().collection_transforms == [waiting_file]
    assert recorded(container) == [("plan_collection_transform", {"collection_transform_id": waiting_file})]
    assert sweeps(container).run().collection_transforms == []
    work(container)
    assert [kind for kind, _ in recorded(container)] == ["extract_file"]
    assert sweeps(container).run().collection_transforms == []


def test_a_plan_that_was_given_up_is_made_again_an_hour_later_and_only_where_none_followed(
    container: Container, world: World
):
    collection = world.collection()
    transform = world.collection_transform(collection, world.dataset())
    world.file(collection)  # no row of what was extracted says that it waits
    with container.database.transaction() as session:
        container.outbox.record(session, PlanCollectionTransform(transform), owner_id="ada")
    set_jobs(container, state="dead")
    assert sweeps(container).run().collection_transforms == []
    set_jobs(container, created_at=LONG_AGO)
    assert sweeps(container).run().collection_transforms == [transform]
    assert sweeps(container).run().collection_transforms == []
    with container.database.transaction() as session:
        again = update(Job).where(Job.state == "pending")
        session.execute(again.values(state="succeeded", created_at=LONG_AGO + timedelta(hours=1)))
    assert sweeps(container).run().collection_transforms == []


def test_a_disabled_transform_is_not_planned(container: Container, waiting_file: int):
    set_jobs(container, state="succeeded")
    with container.database.transaction() as session:
        session.execute(update(CollectionTransform).values(is_enabled=False))
    assert sweeps(container).run().collection_transforms == []


def test_an_item_whose_job_is_gone_is_planned_again(container: Container, world: World):
    dataset = world.dataset()
    transform = world.dataset_transform(dataset)
    embedded = world.embedded_dataset(transform, dataset, world.embedder())
    item_id = world.item(dataset)
    with container.database.transaction() as session:
        session.add(
            ItemEmbedding(
                embedded_dataset_id=embedded,
                item_id=item_id,
                content_hash="old",
                state="pending",
                job_id=uuid4(),
                chunk_count=2,
            )
        )
    assert sweeps(container).run().dataset_transforms == [transform]
    work(container)
    assert [kind for kind, _ in recorded(container)] == ["embed_items"]


def test_an_object_that_no_row_names_is_deleted(container: Container, world: World):
    file_id = world.file(world.collection())
    with container.database.transaction() as session:
        named = session.get_one(File, file_id).object_key
    for key in (named, "files/forgotten", "visualizations/7/forgotten.arrow", "notes/not-ours"):
        container.blobs.put_bytes(key, b"x", media_type="text/plain")
    assert sweeps(container).run().objects == ["files/forgotten", "visualizations/7/forgotten.arrow"]
    work(container)
    assert [blob.key for blob in container.blobs.list("")] == sorted([named, "notes/not-ours"])


@pytest.mark.parametrize("clock", [datetime, Ahead])
def test_a_young_object_may_be_an_upload_in_progress(
    container: Container, world: World, monkeypatch: pytest.MonkeyPatch, clock: type[datetime]
):
    monkeypatch.setattr(stored_objects, "datetime", clock)
    container.blobs.put_bytes("files/uploading", b"x", media_type="text/plain")
    assert sweeps(container, timedelta(hours=1)).run().objects == []


def test_stored_things_are_swept_once_an_hour(container: Container, world: World):
    assert sweeps(container).run().objects == []
    container.blobs.put_bytes("files/forgotten", b"x", media_type="text/plain")
    assert sweeps(container).run() == Swept([], [])
    pass_an_hour(container)
    assert sweeps(container).run().objects == ["files/forgotten"]


@pytest.fixture
def index(container: Container) -> Iterator[str]:
    name = f"embedded-dataset-{uuid4().hex}"
    container.vectors.ensure_index(name, 3)
    yield name
    container.vectors.drop(name)


def only(name: str, swept: Swept) -> list[str]:
    """Other tests leave indexes on the same server."""
    return [each for each in swept.indexes if each == name]


def test_an_index_that_no_row_names_is_dropped_when_it_is_seen_twice(
    container: Container, world: World, index: str
):
    assert only(index, sweeps(container).run()) == []
    pass_an_hour(container)
    assert only(index, sweeps(container, NO_AGE).run(dry_run=True)) == [index]
    contract: Contract = DropVectorIndex(index)
    assert (contract.kind, contract.arguments()) not in recorded(container)
    assert only(index, sweeps(container).run()) == [index]
    assert (contract.kind, contract.arguments()) in recorded(container)


def test_an_index_with_a_row_stays(container: Container, world: World, index: str):
    dataset = world.dataset()
    world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    with container.database.transaction() as session:
        session.execute(update(EmbeddedDataset).values(collection_name=index))
    sweeps(container).run()
    pass_an_hour(container)
    assert only(index, sweeps(container).run()) == []


def test_a_dry_run_shows_all_and_changes_nothing(container: Container, waiting_file: int):
    set_jobs(container, state="succeeded")
    container.blobs.put_bytes("files/forgotten", b"x", media_type="text/plain")
    expected = Swept([waiting_file], [], ["files/forgotten"], [], [], [], [], [])
    assert sweeps(container).run(dry_run=True) == expected
    assert recorded(container) == []
    with container.database.transaction() as session:
        assert not session.scalars(select(Reconciliation)).all()
    assert sweeps(container).run() == expected


def test_a_sweep_is_written_down(container: Container, world: World):
    container.blobs.put_bytes("files/forgotten", b"x", media_type="text/plain")
    sweeps(container).run()
    with container.database.transaction() as session:
        row = session.scalars(select(Reconciliation)).one()
    assert (row.found["objects"], row.found["indexes"]) == (1, 0)
    assert row.finished_at is not None
    assert row.finished_at < datetime.now(UTC) + timedelta(minutes=1)


def cli(container: Container) -> FlaskCliRunner:
    app = Flask("test")
    vars(container)["sweeps"] = sweeps(container, timedelta(hours=1))
    register(app, container)
    return app.test_cli_runner()


def test_the_command_tells_line_by_line_what_it_would_do(container: Container, waiting_file: int):
    set_jobs(container, state="succeeded")
    with container.database.transaction() as session:
        lost = container.outbox.record_many(
            session, [PlanCollectionTransform(1000 + n) for n in range(23)], owner_id="ada"
        )
    set_jobs(container, created_at=LONG_AGO, updated_at=LONG_AGO)
    shown = cli(container).invoke(args=["reconcile", "--dry-run"])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    again = "would send again, never published: job"
    named = {line.removeprefix(again + " ") for line in lines[:20]}
    assert named < {str(job_id) for job_id in lost}
    assert lines[20] == again + ": and 3 more"
    assert lines[21:] == [
        "would plan again, files wait for jobs that are over: collection transform " + str(waiting_file)
    ]


def test_the_command_says_so_when_there_is_nothing_to_do(container: Container, world: World):
    assert cli(container).invoke(args=["reconcile"]).output == "nothing to do\n"
