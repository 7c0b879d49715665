"""The checker of `make chaos` catches products that are broken on purpose."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from app.container import Container
from app.errors import InputRefusedError, UnreadableFileError
from app.jobs.contracts import ExtractFile, PlanCollectionTransform
from app.security.principal import Principal
from app.services import planning
from app.services.failures import mark_failed
from app.services.jobs import Jobs, Run
from app.services.uploads import Upload
from app.storage.postgres.tables import EmbeddedDataset, File, Item, ItemEmbedding, Job
from tasks.watch import Watch
from tests.chaos import hooks
from tests.chaos.checker import Evidence, Seen, Verdict, check
from tests.support.domain import World

MARKER = "umbrellafish"
TEXT = f"The lighthouse keeper met the {MARKER} at dawn. ".encode() * 3


class Pipe:
    """A collection with its transform; jobs are carried out one by one, here."""

    def __init__(self, container: Container, world: World, url: str) -> None:
        self.container, self.services, self.url = container, container.services, url
        self.collection = world.collection()
        self.transform = world.collection_transform(self.collection, world.dataset())

    def upload(self, name: str = "a.txt", content: bytes = TEXT) -> None:
        upload = Upload(name, io.BytesIO(content), len(content))
        done = self.services.files.upload(Principal("ada", "Ada"), self.collection, [upload])
        assert not done.failed

    def begin(self, kind: str) -> Run:
        with self.container.database.transaction() as session:
            active = Job.state.in_(("pending", "running"))
            job = session.scalars(select(Job).where(Job.kind == kind, active)).one()
        run = self.services.jobs.begin(job.job_id, "test", publication=job.publication)
        assert run is not None
        return run

    def plan(self) -> None:
        run = self.begin(PlanCollectionTransform.kind)
        self.services.planning.plan_collection_transform(run, self.transform)

    def extract(self, run: Run) -> None:
        assert isinstance(run.contract, ExtractFile)
        self.services.extraction_runs.extract_file(run, run.contract)

    def verdict(self, *names: str, **more: Any) -> Verdict:
        expected = {(self.collection, name): MARKER for name in names or ("a.txt",)}
        return check(self.url, expected, Evidence(**more))


@pytest.fixture
def pipe(container: Container, world: World, migrated_url: str) -> Pipe:
    return Pipe(container, world, migrated_url)


def give_up(pipe: Pipe, run: Run) -> UUID:
    error = UnreadableFileError("broken")
    with pipe.container.database.transaction() as session:
        pipe.services.jobs.fail(session, run, error)
        mark_failed(session, run.job_id, error)
    return run.job_id


def test_a_product_that_works_has_nothing_lost_and_nothing_doubled(pipe: Pipe):
    pipe.upload()
    pipe.plan()
    pipe.extract(pipe.begin(ExtractFile.kind))
    objects = [blob.key for blob in pipe.container.blobs.list("")]
    verdict = pipe.verdict(objects=objects)
    assert (verdict.lost, verdict.doubled) == ([], [])


def take_away(monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """The product as `make chaos BROKEN=guard` runs it, until the test ends."""
    for owner, name in ((Jobs, "begin"), (Jobs, "fence"), (Watch, "look")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    hooks.BROKEN[guard]()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_job_that_counts_as_done_before_its_results_are_written_is_lost_with_its_worker(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, guarded: bool
):
    pipe.upload()
    pipe.plan()
    if not guarded:
        take_away(monkeypatch, "ack")
    dies = pipe.begin(ExtractFile.kind)
    again = pipe.services.jobs.begin(dies.job_id, "another")
    if again is not None:
        pipe.extract(again)
    lost = pipe.verdict().lost
    assert any(one.startswith("file without a final state") for one in lost) is not guarded
    assert any(one.startswith("accepted upload without its text") for one in lost) is not guarded


@pytest.mark.parametrize("fenced", [True, False])
def test_a_paused_run_that_is_not_fenced_shows_as_doubled(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, fenced: bool
):
    pipe.upload()
    pipe.plan()
    paused = pipe.begin(ExtractFile.kind)
    job_id = give_up(pipe, pipe.begin(ExtractFile.kind))
    if fenced:
        with pytest.raises(Exception, match="no longer this worker's"):
            pipe.extract(paused)
    else:
        take_away(monkeypatch, "fence")
        pipe.extract(paused)
    doubled = pipe.verdict(dead_letters=[str(job_id)]).doubled
    assert bool(doubled) is not fenced


@pytest.mark.parametrize("watermark", [True, False])
def test_a_plan_with_a_watermark_loses_what_commits_late(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, watermark: bool
):
    pipe.upload("late.txt")
    pipe.upload("early.txt")
    if watermark:
        with pipe.container.database.transaction() as session:
            late = session.scalars(select(File.file_id).where(File.name == "late.txt")).one()
        find = planning._files_to_do
        monkeypatch.setattr(
            planning, "_files_to_do", lambda transform, after: find(transform, max(after, late))
        )
    pipe.plan()
    with pipe.container.database.transaction() as session:
        ids = session.scalars(select(Job.job_id).where(Job.kind == ExtractFile.kind)).all()
    for job_id in ids:
        run = pipe.services.jobs.begin(job_id, "test")
        assert run is not None
        pipe.extract(run)
    assert bool(pipe.verdict("late.txt", "early.txt").lost) is watermark


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_dead_job_has_exactly_one_letter_unless_a_stream_lost_it(pipe: Pipe, number: int):
    pipe.upload()
    pipe.plan()
    letters = [str(give_up(pipe, pipe.begin(ExtractFile.kind)))] * number
    begun = datetime.now(UTC) - timedelta(minutes=1)
    named = "dead letter"
    whole = pipe.verdict(dead_letters=letters, letters_since=begun)
    torn = pipe.verdict(dead_letters=letters)
    assert any(named in one for one in whole.lost) is (number == 0)
    assert any(named in one for one in whole.doubled) is (number > 1)
    assert not any(named in one for one in torn.lost)


@pytest.mark.parametrize("found", [True, False])
def test_what_is_embedded_and_not_found_by_a_search_is_lost(pipe: Pipe, world: World, found: bool):
    pipe.upload()
    pipe.plan()
    pipe.extract(pipe.begin(ExtractFile.kind))
    embed(pipe, world, state="succeeded", error_code=None)
    lost = pipe.verdict(found={MARKER} if found else set()).lost
    assert any("no search finds it" in one for one in lost) is not found


@pytest.mark.parametrize("word", [MARKER, "another"])
def test_an_item_that_fails_for_its_neighbours_word_is_lost(pipe: Pipe, world: World, word: str):
    pipe.upload()
    pipe.plan()
    pipe.extract(pipe.begin(ExtractFile.kind))
    embed(pipe, world, state="failed", error_code=InputRefusedError.code)
    lost = pipe.verdict(refused_word=word).lost
    assert any("neighbour" in one for one in lost) is (word != MARKER)


def embed(pipe: Pipe, world: World, *, state: str, error_code: str | None) -> None:
    with pipe.container.database.transaction() as session:
        item = session.scalars(select(Item)).one()
        values: dict[str, Any] = {"dataset": item.dataset_id, "item": item.item_id, "hash": item.content_hash}
    transform = world.dataset_transform(values["dataset"])
    target = world.embedded_dataset(transform, values["dataset"], world.embedder())
    row = ItemEmbedding(
        embedded_dataset_id=target, item_id=values["item"], content_hash=values["hash"],
        state=state, error_code=error_code, chunk_count=1, job_id=uuid4(),
    )  # fmt: skip
    with pipe.container.database.transaction() as session:
        session.add(row)


def test_what_one_owner_holds_or_sees_of_anothers_is_found(pipe: Pipe, world: World):
    pipe.upload()
    pipe.plan()
    pipe.extract(pipe.begin(ExtractFile.kind))
    embed(pipe, world, state="succeeded", error_code=None)
    with pipe.container.database.transaction() as session:
        index = session.scalars(select(EmbeddedDataset.collection_name)).one()
        assert pipe.verdict(payloads={index: {"ada"}}, seen={"ada": saw(pipe)}).shown == []
        World(pipe.container.database, "bob")
        session.execute(update(Item).values(owner_id="bob"))
    seen = {"bob": saw(pipe, "/api/items/1: 200")}
    shown = pipe.verdict(payloads={index: {"ada", "bob"}}, seen=seen).shown
    for what in (
        "item of another owner's file", "item in another owner's dataset", "another owner's item embedded",
        f"vectors of bob in the index {index}", f"bob found {MARKER}", "bob heard of collection transform",
        "bob opened /api/items/1: 200",
    ):  # fmt: skip
        assert any(what in one for one in shown), what


def saw(pipe: Pipe, *opened: str) -> Seen:
    return Seen(markers=[MARKER], transforms=[("collection", pipe.transform)], opened=opened)
