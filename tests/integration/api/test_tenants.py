"""Two owners side by side: whatever is Ada's is not there for Bob, in every verb that takes an id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.container import Container, Services
from app.errors import NotFoundError
from app.security.principal import Principal
from app.services.chat_events import ChatOptions
from app.services.items import PushedChunk, PushedItem
from app.services.search import Query, Rerank
from app.services.uploads import Upload
from app.storage.postgres.tables import Visualization
from tests.integration.api.conftest import ADA, BOB


@dataclass(frozen=True)
class Things:
    """One of each of Ada's."""

    collection: int
    file: int
    dataset: int
    item: int
    chunk: UUID
    embedder: int
    collection_transform: int
    dataset_transform: int
    embedded: int
    visualization_transform: int
    visualization: int
    llm: int
    job: UUID
    chat: int
    answer: int


@pytest.fixture
def adas(container: Container) -> Things:
    of = container.services
    collection = of.collections.create(ADA, title="c").collection_id
    upload = Upload("a.txt", BytesIO(b"hello there"))
    dataset = of.datasets.create(ADA, title="d").dataset_id
    pushed = of.items.push(ADA, dataset, [PushedItem("i", [PushedChunk("hello")])])
    embedder = of.embedders.create(ADA, {"name": "e", "provider": "local"}).embedder_id
    transform = of.dataset_transforms.create(
        ADA, title="t", source_dataset_id=dataset, embedder_ids=[embedder]
    )
    embedded = transform.embedded_dataset_ids[0]
    maps = of.visualization_transforms.create(ADA, title="m", embedded_dataset_id=embedded)
    assert maps.last_visualization_id
    llm = of.llms.create(ADA, {"name": "l", "provider": "openai"}).llm_id
    chat = of.chats.create(ADA, embedded_dataset_id=embedded, llm_id=llm).session_id
    return Things(
        collection=collection,
        file=of.files.upload(ADA, collection, [upload]).completed[0].file_id,
        dataset=dataset,
        item=pushed.item_ids[0],
        chunk=of.items.chunks(ADA, pushed.item_ids[0]).items[0].chunk_id,
        embedder=embedder,
        collection_transform=of.collection_transforms.create(
            ADA, title="t", collection_id=collection, dataset_id=dataset
        ).collection_transform_id,
        dataset_transform=transform.dataset_transform_id,
        embedded=embedded,
        visualization_transform=maps.visualization_transform_id,
        visualization=maps.last_visualization_id,
        llm=llm,
        job=of.jobs.list(ADA).items[0].job_id,
        chat=chat,
        answer=of.chat_answers.ask(ADA, chat, "hello", ChatOptions()).message_id,
    )


Call = Callable[[Services, Principal, Things], Any]
UPLOAD = Upload("b.txt", BytesIO(b"x"))

CALLS: dict[str, Call] = {
    "collections.get": lambda of, who, a: of.collections.get(who, a.collection),
    "collections.update": lambda of, who, a: of.collections.update(who, a.collection, {"title": "x"}),
    "collections.delete": lambda of, who, a: of.collections.delete(who, a.collection),
    "progress.files": lambda of, who, a: of.progress.files(who, a.collection),
    "files.upload": lambda of, who, a: of.files.upload(who, a.collection, [UPLOAD]),
    "files.list": lambda of, who, a: of.files.list(who, a.collection),
    "files.get": lambda of, who, a: of.files.get(who, a.collection, a.file),
    "files.open": lambda of, who, a: of.files.open(who, a.collection, a.file),
    "files.delete": lambda of, who, a: of.files.delete(who, a.file),
    "files.failed_files": lambda of, who, a: of.files.failed_files(who, a.collection),
    "datasets.get": lambda of, who, a: of.datasets.get(who, a.dataset),
    "datasets.update": lambda of, who, a: of.datasets.update(who, a.dataset, {"title": "x"}),
    "datasets.delete": lambda of, who, a: of.datasets.delete(who, a.dataset),
    "items.list": lambda of, who, a: of.items.list(who, a.dataset),
    "items.get": lambda of, who, a: of.items.get(who, a.item),
    "items.item_text": lambda of, who, a: of.items.item_text(who, a.item),
    "items.chunks": lambda of, who, a: of.items.chunks(who, a.item),
    "items.chunk": lambda of, who, a: of.items.chunk(who, a.chunk),
    "items.push": lambda of, who, a: of.items.push(
        who, a.dataset, [PushedItem("i", [PushedChunk("mine now")])]
    ),
    "items.delete": lambda of, who, a: of.items.delete(who, a.item),
    "embedders.get": lambda of, who, a: of.embedders.get(who, a.embedder),
    "embedders.update": lambda of, who, a: of.embedders.update(who, a.embedder, {"name": "x"}),
    "embedders.delete": lambda of, who, a: of.embedders.delete(who, a.embedder),
    "embedders.test": lambda of, who, a: of.embedders.test(who, a.embedder),
    "embedders.client": lambda of, who, a: of.embedders.client(who.owner_id, a.embedder),
    "llms.get": lambda of, who, a: of.llms.get(who, a.llm),
    "llms.update": lambda of, who, a: of.llms.update(who, a.llm, {"name": "x"}),
    "llms.delete": lambda of, who, a: of.llms.delete(who, a.llm),
    "llms.test": lambda of, who, a: of.llms.test(who, a.llm),
    "llms.client": lambda of, who, a: of.llms.client(who.owner_id, a.llm),
    "collection_transforms.list": lambda of, who, a: of.collection_transforms.list(
        who, collection_id=a.collection
    ),
    "collection_transforms.list of a dataset": lambda of, who, a: of.collection_transforms.list(
        who, dataset_id=a.dataset
    ),
    "collection_transforms.get": lambda of, who, a: of.collection_transforms.get(who, a.collection_transform),
    "collection_transforms.update": lambda of, who, a: of.collection_transforms.update(
        who, a.collection_transform, {"title": "x"}
    ),
    "collection_transforms.delete": lambda of, who, a: of.collection_transforms.delete(
        who, a.collection_transform
    ),
    "collection_transforms.trigger": lambda of, who, a: of.collection_transforms.trigger(
        who, a.collection_transform
    ),
    "collection_transforms.retry_failed": lambda of, who, a: of.collection_transforms.retry_failed(
        who, a.collection_transform
    ),
    "collection_transforms.stats": lambda of, who, a: of.collection_transforms.stats(
        who, a.collection_transform
    ),
    "collection_transforms.processed_files": lambda of, who, a: of.collection_transforms.processed_files(
        who, a.collection_transform
    ),
    "collection_transforms.create": lambda of, who, a: of.collection_transforms.create(
        who, title="t", collection_id=a.collection, dataset_id=a.dataset
    ),
    "dataset_transforms.list": lambda of, who, a: of.dataset_transforms.list(who, dataset_id=a.dataset),
    "dataset_transforms.get": lambda of, who, a: of.dataset_transforms.get(who, a.dataset_transform),
    "dataset_transforms.update": lambda of, who, a: of.dataset_transforms.update(
        who, a.dataset_transform, {"title": "x"}
    ),
    "dataset_transforms.delete": lambda of, who, a: of.dataset_transforms.delete(who, a.dataset_transform),
    "dataset_transforms.trigger": lambda of, who, a: of.dataset_transforms.trigger(who, a.dataset_transform),
    "dataset_transforms.retry_failed": lambda of, who, a: of.dataset_transforms.retry_failed(
        who, a.dataset_transform
    ),
    "dataset_transforms.stats": lambda of, who, a: of.dataset_transforms.stats(who, a.dataset_transform),
    "dataset_transforms.batches": lambda of, who, a: of.dataset_transforms.batches(who, a.dataset_transform),
    "dataset_transforms.create": lambda of, who, a: of.dataset_transforms.create(
        who, title="t", source_dataset_id=a.dataset, embedder_ids=[a.embedder]
    ),
    "embedded_datasets.list": lambda of, who, a: of.embedded_datasets.list(who, dataset_id=a.dataset),
    "embedded_datasets.get": lambda of, who, a: of.embedded_datasets.get(who, a.embedded),
    "embedded_datasets.update": lambda of, who, a: of.embedded_datasets.update(who, a.embedded, title="x"),
    "embedded_datasets.delete": lambda of, who, a: of.embedded_datasets.delete(who, a.embedded),
    "embedded_datasets.stats": lambda of, who, a: of.embedded_datasets.stats(who, a.embedded),
    "embedded_datasets.batches": lambda of, who, a: of.embedded_datasets.batches(who, a.embedded),
    "embedded_datasets.points": lambda of, who, a: of.embedded_datasets.points(who, a.embedded),
    "embedded_datasets.vector": lambda of, who, a: of.embedded_datasets.vector(who, a.embedded, uuid4()),
    "visualization_transforms.list": lambda of, who, a: of.visualization_transforms.list(
        who, embedded_dataset_id=a.embedded
    ),
    "visualization_transforms.get": lambda of, who, a: of.visualization_transforms.get(
        who, a.visualization_transform
    ),
    "visualization_transforms.update": lambda of, who, a: of.visualization_transforms.update(
        who, a.visualization_transform, {"title": "x"}
    ),
    "visualization_transforms.delete": lambda of, who, a: of.visualization_transforms.delete(
        who, a.visualization_transform
    ),
    "visualization_transforms.trigger": lambda of, who, a: of.visualization_transforms.trigger(
        who, a.visualization_transform
    ),
    "visualization_transforms.stats": lambda of, who, a: of.visualization_transforms.stats(
        who, a.visualization_transform
    ),
    "visualization_transforms.create": lambda of, who, a: of.visualization_transforms.create(
        who, title="t", embedded_dataset_id=a.embedded
    ),
    "visualizations.list": lambda of, who, a: of.visualizations.list(who, embedded_dataset_id=a.embedded),
    "visualizations.list of a transform": lambda of, who, a: of.visualizations.list(
        who, visualization_transform_id=a.visualization_transform
    ),
    "visualizations.get": lambda of, who, a: of.visualizations.get(who, a.visualization),
    "visualizations.clusters": lambda of, who, a: of.visualizations.clusters(who, a.visualization),
    "visualizations.points": lambda of, who, a: of.visualizations.points(who, a.visualization),
    "visualizations.points_file": lambda of, who, a: of.visualizations.points_file(who, a.visualization),
    "visualizations.delete": lambda of, who, a: of.visualizations.delete(who, a.visualization),
    "cancelling.collection_transform": lambda of, who, a: of.cancelling.collection_transform(
        who, a.collection_transform
    ),
    "cancelling.dataset_transform": lambda of, who, a: of.cancelling.dataset_transform(
        who, a.dataset_transform
    ),
    "cancelling.visualization_transform": lambda of, who, a: of.cancelling.visualization_transform(
        who, a.visualization_transform
    ),
    "cancelling.visualization": lambda of, who, a: of.cancelling.visualization(who, a.visualization),
    "cancelling.job": lambda of, who, a: of.cancelling.job(who, a.job),
    "embedded_datasets.stats_of": lambda of, who, a: of.embedded_datasets.stats_of(who, [a.embedded]),
    "batches.get": lambda of, who, a: of.batches.get(who, a.dataset_transform, a.job),
    "batches.stats": lambda of, who, a: of.batches.stats(who, a.dataset_transform),
    "batches.retry": lambda of, who, a: of.batches.retry(who, a.dataset_transform, a.job),
    "transform_runs.list of files": lambda of, who, a: of.transform_runs.list(
        who, "collection", a.collection_transform
    ),
    "transform_runs.list of items": lambda of, who, a: of.transform_runs.list(
        who, "dataset", a.dataset_transform
    ),
    "cancelling.collection_run": lambda of, who, a: of.cancelling.collection_run(
        who, a.collection_transform, a.job
    ),
    "cancelling.dataset_run": lambda of, who, a: of.cancelling.dataset_run(who, a.dataset_transform, a.job),
    "transform_runs.get": lambda of, who, a: of.transform_runs.get(
        who, "collection", a.collection_transform, a.job
    ),
    "exports.dataset": lambda of, who, a: of.exports.dataset(who, a.dataset),
    "exports.embedded_dataset": lambda of, who, a: of.exports.embedded_dataset(who, a.embedded, vectors=True),
    "exports.map_points": lambda of, who, a: of.exports.map_points(who, a.visualization),
    "exports.map_clusters": lambda of, who, a: of.exports.map_clusters(who, a.visualization),
    "previews.preview": lambda of, who, a: of.previews.preview(who, a.collection, a.file, job_config={}),
    "visualizations.all_points": lambda of, who, a: of.visualizations.all_points(
        who, a.visualization, batch=1
    ),
    "search.search": lambda of, who, a: of.search.search(who, Query("x", [a.embedded])),
    "search.search with a reranker": lambda of, who, a: of.search.search(
        who, Query("x", [a.embedded], rerank=Rerank(a.llm))
    ),
    "search.passages": lambda of, who, a: of.search.passages(who, Query("x", [a.embedded])),
    "llms.reranker": lambda of, who, a: of.llms.reranker(who.owner_id, a.llm, None),
    "chats.create": lambda of, who, a: of.chats.create(who, embedded_dataset_id=a.embedded, llm_id=a.llm),
    "chats.get": lambda of, who, a: of.chats.get(who, a.chat),
    "chats.messages": lambda of, who, a: of.chats.messages(who, a.chat),
    "chats.delete": lambda of, who, a: of.chats.delete(who, a.chat),
    "chat_answers.ask": lambda of, who, a: of.chat_answers.ask(who, a.chat, "hello", ChatOptions()),
    "chat_answers.regenerate": lambda of, who, a: of.chat_answers.regenerate(who, a.answer),
    "grabbing.collection": lambda of, who, a: of.grabbing.collection(who, a.collection),
    "grabbing.dataset": lambda of, who, a: of.grabbing.dataset(who, a.dataset),
    "grabbing.embedder": lambda of, who, a: of.grabbing.embedder(who, a.embedder),
    "grabbing.llm": lambda of, who, a: of.grabbing.llm(who, a.llm),
}


def test_nothing_of_adas_is_there_for_bob(container: Container, adas: Things):
    services = container.services
    for name, call in CALLS.items():
        with pytest.raises(NotFoundError):
            call(services, BOB, adas)
            pytest.fail(f"{name} let Bob in")
    # All of it is still there and as it was.
    assert services.collections.get(ADA, adas.collection).title == "c"
    assert services.files.get(ADA, adas.collection, adas.file).name == "a.txt"
    assert services.items.item_text(ADA, adas.item).text == "hello"
    assert services.embedders.get(ADA, adas.embedder).name == "e"
    assert services.visualizations.get(ADA, adas.visualization).transform_title == "m"


def test_passages_of_several_items_come_for_ones_own_only(container: Container, adas: Things):
    items = container.services.items
    page = items.list(ADA, adas.dataset).items
    assert [one.chunks != [] for one in items.with_chunks(ADA, page, most=2)] == [True]
    assert [one.chunks for one in items.with_chunks(BOB, page, most=2)] == [[]]


def test_every_verb_that_takes_an_id_is_tried(container: Container):
    tried = {name.split(" ")[0] for name in CALLS}
    exempt = {
        "create",
        "recent",
        "ensure",
        "complete",
        "public",
        "with_chunks",  # leaves out what is not theirs, tried below
    }  # take no id of somebody's, or are tried above where they do
    for noun in {name.split(".")[0] for name in CALLS}:
        service = getattr(container.services, noun)
        verbs = {
            name
            for name in dir(type(service))
            if not name.startswith("_") and callable(getattr(service, name))
        }
        fields = set(type(service).__dataclass_fields__)
        missing = {f"{noun}.{verb}" for verb in verbs - fields - exempt} - tried
        assert missing <= {
            "collections.list",
            "datasets.list",
            "embedders.list",
            "llms.list",
            "chats.list",
        }, missing


def test_lists_hold_only_ones_own(container: Container, adas: Things):
    of = container.services
    for noun in (
        of.collections,
        of.datasets,
        of.embedders,
        of.llms,
        of.collection_transforms,
        of.dataset_transforms,
        of.embedded_datasets,
        of.visualization_transforms,
        of.visualizations,
        of.chats,
    ):
        assert noun.list(BOB).total_count == 0
        assert noun.list(ADA).total_count == 1
    with container.database.transaction() as session:
        session.get_one(Visualization, adas.visualization).status = "completed"
    assert of.visualizations.recent(BOB) == ()
    assert len(of.visualizations.recent(ADA)) == 1


def test_what_is_public_can_be_read_and_not_changed(container: Container, adas: Things):
    of = container.services
    of.collections.update(ADA, adas.collection, {"is_public": True})
    of.datasets.update(ADA, adas.dataset, {"is_public": True})
    assert of.collections.get(BOB, adas.collection).owner_display_name == "Ada"
    assert of.files.list(BOB, adas.collection).total_count == 1
    assert of.items.item_text(BOB, adas.item).text == "hello"
    for name in ("collections.update", "files.upload", "files.delete", "items.push", "items.delete"):
        with pytest.raises(NotFoundError):
            CALLS[name](of, BOB, adas)
