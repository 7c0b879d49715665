from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from app.container import Container
from app.errors import ObjectMissingError
from app.jobs.contracts import Contract, ExtractFile, PlanCollectionTransform
from app.pipeline.document import Document
from app.pipeline.extraction.base import SourceFile
from app.services.extraction_runs import ExtractionRuns
from app.services.jobs import Run
from app.storage.postgres.tables import File, FileExtraction, Item, Job
from app.storage.s3 import BlobStore
from tests.support.domain import World

OLD, NEW = b"the old text of the file", b"the new text of the file"


class Extraction:
    """A collection with one stored file and its transform; jobs are run by hand."""

    def __init__(self, container: Container, world: World, folder: Path) -> None:
        self.container, self.folder = container, folder
        self.collection = world.collection()
        self.transform = world.collection_transform(self.collection, world.dataset())
        self.file_id = world.file(self.collection)
        self.store(OLD)

    def store(self, content: bytes) -> str:
        with self.container.database.transaction() as session:
            key = session.get_one(File, self.file_id).object_key
        path = self.folder / "upload"
        path.write_bytes(content)
        self.container.blobs.put_file(key, path, media_type="text/plain")
        return key

    def plan(self) -> None:
        contract = PlanCollectionTransform(self.transform)
        self.container.services.planning.plan_collection_transform(self.begin(contract), self.transform)

    def begin(self, contract: Contract) -> Run:
        with self.container.database.transaction() as session:
            job_id = self.container.outbox.record(session, contract, owner_id="ada")
        run = self.container.services.jobs.begin(job_id, "test")
        assert run is not None
        return run

    def extract(self, version: int, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        runs = self.container.services.extraction_runs
        contract = ExtractFile(self.transform, self.file_id, version)
        _interrupted(runs, meanwhile).extract_file(self.begin(contract), contract)

    def replace_file(self) -> None:
        with self.container.database.transaction() as session:
            session.execute(update(File).values(version=File.version + 1, object_key="files/new"))
        self.store(NEW)

    def texts(self) -> list[str]:
        with self.container.database.transaction() as session:
            return list(session.scalars(select(Item.text)))


def _interrupted(runs: ExtractionRuns, meanwhile: Callable[[], None]) -> ExtractionRuns:
    """Something happens after the file was fetched and before its text is written."""

    def read(source: SourceFile, config: Mapping[str, Any]) -> Document:
        document = runs.read(source, config)
        meanwhile()
        return document

    return replace(runs, read=read)


@pytest.fixture
def extraction(container: Container, world: World, tmp_path: Path) -> Extraction:
    return Extraction(container, world, tmp_path)


def test_a_file_becomes_an_item(extraction: Extraction):
    extraction.plan()
    extraction.extract(1)
    assert extraction.texts() == [OLD.decode()]


def test_a_slow_run_of_an_older_version_does_not_overwrite_the_newer_one(extraction: Extraction):
    def replaced_and_done() -> None:
        extraction.replace_file()
        extraction.plan()
        extraction.extract(2)

    extraction.plan()
    extraction.extract(1, meanwhile=replaced_and_done)
    assert extraction.texts() == [NEW.decode()]
    with extraction.container.database.transaction() as session:
        (row,) = session.scalars(select(FileExtraction))
        assert (row.file_version, row.state) == (2, "succeeded")


@pytest.mark.parametrize("late", [False, True], ids=["before", "during"])
def test_a_run_for_a_deleted_file_ends_without_a_failure(extraction: Extraction, late: bool):
    def forget() -> None:
        with extraction.container.database.transaction() as session:
            session.execute(delete(File))

    extraction.plan()
    if late:
        extraction.extract(1, meanwhile=forget)
    else:
        forget()
        extraction.extract(1)
    assert extraction.texts() == []
    with extraction.container.database.transaction() as session:
        job = session.scalars(select(Job).where(Job.kind == ExtractFile.kind)).one()
        assert (job.state, job.outcome) == ("succeeded", {"skipped": "the file or its transform was deleted"})


class SlowBlobs:
    """Storage that something happens before: a download that waits for its turn."""

    def __init__(self, blobs: BlobStore, meanwhile: Callable[[], None]) -> None:
        self._blobs, self._meanwhile = blobs, meanwhile

    def download(self, key: str, path: Path) -> None:
        self._meanwhile()
        self._blobs.download(key, path)


@pytest.mark.parametrize("replaced", [True, False])
def test_only_a_present_file_without_its_object_is_a_failure(extraction: Extraction, replaced: bool):
    runs = extraction.container.services.extraction_runs
    contract = ExtractFile(extraction.transform, extraction.file_id, 1)
    with extraction.container.database.transaction() as session:
        key = session.get_one(File, extraction.file_id).object_key

    def sweep() -> None:
        if replaced:
            extraction.replace_file()
        extraction.container.blobs.delete([key])

    blobs: Any = SlowBlobs(runs.blobs, sweep)
    run = extraction.begin(contract)
    if replaced:
        replace(runs, blobs=blobs).extract_file(run, contract)
    else:
        with pytest.raises(ObjectMissingError, match="upload it again"):
            replace(runs, blobs=blobs).extract_file(run, contract)
    with extraction.container.database.transaction() as session:
        job = session.get_one(Job, run.job_id)
        assert (job.state, job.outcome) == (
            ("succeeded", {"skipped": "the file was replaced"}) if replaced else ("running", {})
        )
