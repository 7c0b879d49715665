"""Deletions meet work at its worst moment: each waits for the other, and neither is ended by Postgres."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text

from app.jobs.contracts import PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.collection_transforms import CollectionTransforms
from app.services.collections import Collections
from app.services.datasets import Datasets
from app.services.files import Files
from app.storage.postgres.session import Database
from app.storage.postgres.tables import CollectionTransform, File
from tests.support.domain import World

ADA = Principal("ada", "Ada")


class Scene:
    """A file with the transforms that read it, and the deletions that can hit them."""

    def __init__(self, world: World, outbox: Outbox) -> None:
        self.database, self.outbox = world.database, outbox
        self.collection, self.dataset = world.collection(), world.dataset()
        self.file = world.file(self.collection)
        self.transform = world.collection_transform(self.collection, self.dataset)
        self.next_transform = world.dataset_transform(self.dataset)
        world.embedded_dataset(self.next_transform, self.dataset, world.embedder())

    def delete(self, what: str) -> None:
        rows, outbox = self.database, self.outbox
        deletions: dict[str, Callable[[], None]] = {
            "collection": lambda: Collections(rows, outbox).delete(ADA, self.collection),
            "dataset": lambda: Datasets(rows, outbox).delete(ADA, self.dataset),
            "transform": lambda: CollectionTransforms(rows, outbox, dict, dict).delete(ADA, self.transform),
            "file": lambda: _files(rows, outbox).delete(ADA, self.file),
        }
        deletions[what]()


def _files(database: Database, outbox: Outbox) -> Files:
    nowhere: object = None
    return Files(database, outbox, nowhere, lambda _path, _name: "", 1)  # type: ignore[arg-type] # not called


def wait_until_somebody_waits(database: Database, number: int = 1) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + 40
    while True:
        with database.transaction() as session:
            if session.scalar(waiting) >= number:
                return
        assert time.monotonic() < deadline, "the deletion did not wait"
        time.sleep(0.02)


@pytest.mark.parametrize("what", ["collection", "dataset", "transform", "file"])
def test_a_deletion_waits_for_the_run_that_writes_and_the_run_for_nobody(
    world: World, database: Database, outbox: Outbox, what: str
):
    scene = Scene(world, outbox)
    begun = threading.Event()

    def write() -> None:
        """What the extraction of a file locks, in its order."""
        with database.transaction() as session:
            transforms = select(CollectionTransform.dataset_id).where(
                CollectionTransform.collection_transform_id == scene.transform
            )
            session.scalar(transforms.with_for_update(read=True, key_share=True))
            files = select(File.version).where(File.file_id == scene.file)
            session.scalar(files.with_for_update(read=True))
            begun.set()
            wait_until_somebody_waits(database)
            contract = PlanDatasetTransform(scene.next_transform)
            outbox.record(session, contract, owner_id=ADA.owner_id)

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write)
        assert begun.wait(30)
        deleting = pool.submit(scene.delete, what)
        writing.result(30)
        deleting.result(30)
