from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import delete, select, update

from app.jobs.contracts import PlanCollectionTransform, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.services.jobs import Jobs, Run
from app.services.planning import Planning
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    CollectionTransform,
    DatasetTransform,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
    Job,
)
from tests.support.domain import Recorder, World


@pytest.fixture
def planning(database: Database, outbox: Outbox, jobs: Jobs, recorder: Recorder) -> Planning:
    return Planning(database, outbox, jobs, recorder)


class Files:
    """A collection with a transform, planned on demand."""

    def __init__(self, world: World, planning: Planning, recorder: Recorder) -> None:
        self.world, self.planning, self.recorder = world, planning, recorder
        self.collection = world.collection()
        self.transform = world.collection_transform(self.collection, world.dataset())

    def plan(self) -> list[int]:
        """The file ids that a plan made jobs for."""
        run = begin(self.planning, PlanCollectionTransform(self.transform), self.recorder)
        self.planning.plan_collection_transform(run, self.transform)
        return sorted(job.arguments["file_id"] for job in jobs_since(self.world.database, run))

    def finish_all(self) -> None:
        with self.world.database.transaction() as session:
            session.execute(update(FileExtraction).values(state="succeeded"))
            session.execute(update(Job).values(state="succeeded"))


class Vectors:
    """A dataset with one embedded dataset, planned on demand."""

    def __init__(self, world: World, planning: Planning, recorder: Recorder) -> None:
        self.world, self.planning, self.recorder = world, planning, recorder
        self.dataset = world.dataset()
        self.transform = world.dataset_transform(self.dataset)
        self.target = world.embedded_dataset(self.transform, self.dataset, world.embedder())

    def plan(self) -> list[tuple[str, list[int]]]:
        """(kind, item ids) of the jobs that a plan made."""
        run = begin(self.planning, PlanDatasetTransform(self.transform), self.recorder)
        self.planning.plan_dataset_transform(run, self.transform)
        made = jobs_since(self.world.database, run)
        return [(job.kind, sorted(job.arguments["item_ids"])) for job in made]

    finish_all = Files.finish_all

    def finish(self) -> None:
        with self.world.database.transaction() as session:
            session.execute(update(ItemEmbedding).values(state="succeeded"))
            session.execute(update(Job).values(state="succeeded"))


def begin(planning: Planning, contract, recorder: Recorder) -> Run:
    with planning.database.transaction() as session:
        job_id = planning.outbox.record(session, contract, owner_id="ada")
    run = planning.jobs.begin(job_id, "test")
    assert run is not None
    recorder.sent.clear()
    return run


def jobs_since(database: Database, run: Run) -> list[Job]:
    """What was recorded since a plan began; not all of it is sent yet."""
    with database.transaction() as session:
        began = select(Job.started_at).where(Job.job_id == run.job_id).scalar_subquery()
        return list(session.scalars(select(Job).where(Job.created_at > began).order_by(Job.created_at)))


@pytest.fixture
def files(world: World, planning: Planning, recorder: Recorder) -> Files:
    return Files(world, planning, recorder)


@pytest.fixture
def vectors(world: World, planning: Planning, recorder: Recorder) -> Vectors:
    return Vectors(world, planning, recorder)


def test_every_new_file_gets_one_job_and_a_second_plan_adds_none(files: Files):
    ids = [files.world.file(files.collection, f"{n}.txt") for n in range(3)]
    assert files.plan() == ids
    assert files.plan() == []


def test_a_plan_of_many_pages_finds_every_file(files: Files):
    with files.world.database.transaction() as session:
        session.add_all(
            File(
                owner_id="ada",
                collection_id=files.collection,
                name=f"{n}.txt",
                media_type="text/plain",
                size_bytes=1,
                content_hash="0",
                object_key=str(uuid4()),
            )
            for n in range(1100)
        )
    assert len(files.plan()) == 1100


def test_a_file_replaced_under_the_same_name_is_done_again(files: Files):
    file_id = files.world.file(files.collection)
    files.plan()
    files.finish_all()
    with files.world.database.transaction() as session:
        session.execute(update(File).values(version=2))
    assert files.plan() == [file_id]


def test_a_changed_configuration_redoes_what_it_changes(files: Files):
    file_id = files.world.file(files.collection)
    files.plan()
    files.finish_all()
    with files.world.database.transaction() as session:
        session.execute(update(CollectionTransform).values(config_hash="c2"))
    assert files.plan() == [file_id]


def test_a_failed_file_is_left_alone_until_somebody_asks(files: Files):
    files.world.file(files.collection)
    files.plan()
    with files.world.database.transaction() as session:
        session.execute(update(FileExtraction).values(state="failed"))
        session.execute(update(Job).values(state="dead"))
    assert files.plan() == []


def test_a_file_whose_job_was_cancelled_is_planned_again(files: Files):
    file_id = files.world.file(files.collection)
    files.plan()
    with files.world.database.transaction() as session:
        session.execute(update(Job).values(state="cancelled"))
    assert files.plan() == [file_id]


def test_a_disabled_transform_plans_nothing(files: Files):
    files.world.file(files.collection)
    with files.world.database.transaction() as session:
        session.execute(update(CollectionTransform).values(is_enabled=False))
    assert files.plan() == []


def test_a_late_commit_with_a_lower_id_is_found(files: Files):
    low, high = (files.world.file(files.collection, name) for name in ("a.txt", "b.txt"))
    with files.world.database.transaction() as session:
        row = session.get_one(File, low)
        session.expunge(row)
        session.execute(delete(File).where(File.file_id == low))
    assert files.plan() == [high]
    with files.world.database.transaction() as session:
        session.merge(row)
    assert files.plan() == [low]


def test_new_items_are_embedded_in_batches_named_by_their_content(vectors: Vectors):
    ids = [vectors.world.item(vectors.dataset) for _ in range(3)]
    assert vectors.plan() == [("embed_items", ids)]
    assert vectors.plan() == []


def test_an_edited_item_is_embedded_again(vectors: Vectors):
    first, second = (vectors.world.item(vectors.dataset) for _ in range(2))
    vectors.plan()
    vectors.finish()
    with vectors.world.database.transaction() as session:
        session.execute(update(Item).where(Item.item_id == second).values(content_hash="new"))
    assert vectors.plan() == [("embed_items", [second])]
    assert first != second


def test_a_deleted_item_loses_its_vectors(vectors: Vectors):
    item = vectors.world.item(vectors.dataset)
    vectors.plan()
    vectors.finish()
    with vectors.world.database.transaction() as session:
        session.execute(delete(Item).where(Item.item_id == item))
    assert vectors.plan() == [("delete_item_vectors", [item])]


def test_a_second_embedder_gets_everything_and_the_first_nothing(vectors: Vectors):
    item = vectors.world.item(vectors.dataset)
    vectors.plan()
    vectors.finish()
    world = vectors.world
    other = world.embedded_dataset(vectors.transform, vectors.dataset, world.embedder(dimensions=5))
    assert vectors.plan() == [("embed_items", [item])]
    with world.database.transaction() as session:
        pending = session.scalars(
            select(ItemEmbedding.embedded_dataset_id).where(ItemEmbedding.state == "pending")
        )
        assert list(pending) == [other]


def test_big_items_are_not_put_into_one_batch(vectors: Vectors):
    big = [vectors.world.item(vectors.dataset, [f"{n} {i}" for i in range(130)]) for n in range(3)]
    assert sorted(vectors.plan()) == [("embed_items", [item]) for item in sorted(big)]


def test_a_disabled_dataset_transform_still_removes_what_is_gone(vectors: Vectors):
    item = vectors.world.item(vectors.dataset)
    vectors.plan()
    vectors.finish()
    vectors.world.item(vectors.dataset)
    with vectors.world.database.transaction() as session:
        session.execute(delete(Item).where(Item.item_id == item))
        session.execute(update(DatasetTransform).values(is_enabled=False))
    assert vectors.plan() == [("delete_item_vectors", [item])]
