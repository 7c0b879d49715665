"""Changes while the work runs: deleting, disabling, replacing; afterwards all stores agree."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from devstack import documents
from devstack.client import Pile
from tests.support.app_processes import RunningApp
from tests.support.providers import EmbeddingServer, embedding_server
from tests.support.stores import Stores

TEXT = "The lighthouse keeper counted seventeen violet umbrellas drifting past the harbour wall. "


class Gate:
    """Holds a provider's answers back: the moment in which the product is in the middle of its work."""

    def __init__(self, provider: EmbeddingServer) -> None:
        self._provider, self._open = provider, threading.Event()
        answer = provider.vector

        def wait(text: str) -> list[float]:
            self._open.wait(30)
            return answer(text)

        vars(provider)["vector"] = wait

    def wait_until_reached(self, app: RunningApp) -> None:
        app.wait_for("a request at the provider", lambda: self._provider.requests)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(provider: EmbeddingServer) -> Iterator[Gate]:
    made = Gate(provider)
    yield made
    made.open()


def add_embedder(app: RunningApp, provider: EmbeddingServer) -> int:
    body = {
        "name": f"{provider.dimensions} numbers",
        "provider": "openai",
        "base_url": provider.openai_url,
        "api_key": "sk-canary",
        "model": "stub",
        "dimensions": provider.dimensions,
    }
    return int(app.client.post("/api/embedders", body)["embedder_id"])


def patch(app: RunningApp, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = app.http.patch(path, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def use(app: RunningApp, pile: Pile, *embedder_ids: int) -> list[int]:
    """Let the pile's dataset transform have these embedders; returns its embedded datasets."""
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    return list(patch(app, path, {"embedder_ids": list(embedder_ids)})["embedded_dataset_ids"])


@pytest.fixture
def pile(running_app: RunningApp, stores: Stores, provider: EmbeddingServer, request: Any) -> Pile:
    """A pile that embeds with the provider; its one embedded dataset is `embedded`, its index `index`."""
    made = running_app.pile(request.node.name)
    (embedded,) = use(running_app, made, add_embedder(running_app, provider))
    made.ids["embedded_dataset_id"] = embedded
    stores.wait_until_idle()
    return made


def index_of(app: RunningApp, embedded_dataset_id: int) -> str:
    return str(app.client.get(f"/api/embedded-datasets/{embedded_dataset_id}")["collection_name"])


def found(app: RunningApp, *embedded_dataset_ids: int) -> list[list[str]]:
    """The titles that a search for the text finds, per embedded dataset."""
    body = {"query": TEXT, "embedded_dataset_ids": list(embedded_dataset_ids), "limit": 5}
    blocks = app.client.post("/api/search", body)["results"]
    assert [block["error"] for block in blocks] == [None] * len(embedded_dataset_ids)
    return [[match["item_title"] for match in block["matches"]] for block in blocks]


def upload(app: RunningApp, pile: Pile, name: str, content: bytes | str = TEXT) -> str:
    raw = content.encode() if isinstance(content, str) else content
    (done,) = app.upload(pile.ids["collection_id"], [(name, raw)])["completed"]
    return f"/api/collections/{pile.ids['collection_id']}/files/{done['key']}"


def chunks_of(stores: Stores, pile: Pile) -> int:
    return stores.number(
        "SELECT count(*) FROM chunks JOIN items USING (item_id) WHERE dataset_id = %s", pile.ids["dataset_id"]
    )


def test_a_file_deleted_while_it_is_embedded_leaves_nothing(
    running_app: RunningApp, stores: Stores, pile: Pile, gate: Gate
):
    embedded = pile.ids["embedded_dataset_id"]
    before, dead = stores.objects(), stores.dead_jobs()
    path = upload(running_app, pile, "minutes.txt", TEXT * 200)
    gate.wait_until_reached(running_app)
    assert running_app.http.delete(path).status_code == 200
    stores.wait_until_idle(but="embed_items")
    gate.open()
    stores.wait_until_idle()
    assert running_app.http.get(f"{path}/state").status_code == 404
    assert (chunks_of(stores, pile), stores.objects() - before) == (0, set())
    assert stores.vectors(index_of(running_app, embedded)) == 0
    assert found(running_app, embedded) == [[]]
    assert stores.dead_jobs() == dead


def test_a_dataset_deleted_while_it_is_embedded_takes_its_index_along(
    running_app: RunningApp, stores: Stores, pile: Pile, gate: Gate
):
    index, dead = index_of(running_app, pile.ids["embedded_dataset_id"]), stores.dead_jobs()
    upload(running_app, pile, "minutes.txt", TEXT * 200)
    gate.wait_until_reached(running_app)
    assert running_app.http.delete(f"/api/datasets/{pile.ids['dataset_id']}").status_code == 200
    stores.wait_until_idle(but="embed_items")
    gate.open()
    stores.wait_until_idle()
    assert (chunks_of(stores, pile), stores.vectors(index)) == (0, None)
    body = {"query": "x", "embedded_dataset_ids": [pile.ids["embedded_dataset_id"]]}
    assert running_app.http.post("/api/search", json=body).status_code == 404
    files = running_app.client.get(f"/api/collections/{pile.ids['collection_id']}/files")
    assert [one["state"] for one in files["files"]] == ["stored"]
    assert stores.dead_jobs() == dead


def test_a_collection_deleted_while_its_files_are_read_leaves_nothing(
    running_app: RunningApp, stores: Stores, pile: Pile
):
    before, dead = stores.objects(), stores.dead_jobs()
    files = [(f"{number}.md", f"# {number}\n\n{TEXT * 20}".encode()) for number in range(40)]
    running_app.upload(pile.ids["collection_id"], files)
    running_app.wait_for("the first file to be read", lambda: chunks_of(stores, pile))
    assert running_app.http.delete(f"/api/collections/{pile.ids['collection_id']}").status_code == 200
    stores.wait_until_idle()
    assert (chunks_of(stores, pile), stores.objects() - before) == (0, set())
    assert not stores.vectors(index_of(running_app, pile.ids["embedded_dataset_id"]))
    assert found(running_app, pile.ids["embedded_dataset_id"]) == [[]]
    assert stores.dead_jobs() == dead


def test_a_disabled_transform_stops_after_what_it_does_and_goes_on_when_enabled(
    running_app: RunningApp, stores: Stores, pile: Pile, gate: Gate
):
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    upload(running_app, pile, "first.txt")
    gate.wait_until_reached(running_app)
    patch(running_app, path, {"is_enabled": False})
    upload(running_app, pile, "second.txt", f"{TEXT}Twice.")
    gate.open()
    stores.wait_until_idle()
    assert "second.txt" not in found(running_app, pile.ids["embedded_dataset_id"])[0]
    answer = running_app.http.post(f"{path}/trigger")
    assert (answer.status_code, answer.json()["field"]) == (400, "is_enabled")
    patch(running_app, path, {"is_enabled": True})
    stores.wait_until_idle()
    (titles,) = found(running_app, pile.ids["embedded_dataset_id"])
    assert sorted(titles) == ["first.txt", "second.txt"]
    stats = running_app.client.get(f"{path}/stats")
    assert (stats["status"], stats["failed_batches"]) == ("completed", 0)


def test_a_disabled_collection_transform_reads_nothing_until_it_is_enabled(
    running_app: RunningApp, stores: Stores, pile: Pile
):
    path = f"/api/collection-transforms/{pile.ids['collection_transform_id']}"
    running_app.upload(pile.ids["collection_id"], [(f"{n}.txt", f"{TEXT}{n}".encode()) for n in range(12)])
    patch(running_app, path, {"is_enabled": False})
    upload(running_app, pile, "late.txt")
    stores.wait_until_idle()
    assert running_app.client.get(f"{path}/stats")["successful_files"] < 13
    patch(running_app, path, {"is_enabled": True})
    stores.wait_until_idle()
    stats = running_app.client.get(f"{path}/stats")
    assert (stats["successful_files"], stats["failed_files"], stats["pending_files"]) == (13, 0, 0)
    assert stores.vectors(index_of(running_app, pile.ids["embedded_dataset_id"])) == chunks_of(stores, pile)


def test_a_failed_file_is_read_once_it_is_replaced(
    running_app: RunningApp, stores: Stores, pile: Pile, tmp_path: Any
):
    transform = f"/api/collection-transforms/{pile.ids['collection_transform_id']}"
    failures = f"/api/collections/{pile.ids['collection_id']}/failed-files"
    upload(running_app, pile, "a.pdf", b"%PDF-1.7\nthis is not a document\n%%EOF")
    stores.wait_until_idle()
    assert running_app.client.get(failures)["total_count"] == 1
    assert running_app.client.post(f"{transform}/retry-failed")["retried_count"] == 1
    stores.wait_until_idle()
    (failed,) = running_app.client.get(failures)["items"]
    assert "a.pdf is damaged" in failed["process_error"]
    path = upload(
        running_app, pile, "a.pdf", documents.write_pdf(tmp_path / "a.pdf", [TEXT], title="Log").read_bytes()
    )
    stores.wait_until_idle()
    assert running_app.client.get(f"{path}/state")["state"] == "succeeded"
    assert running_app.client.get(failures)["total_count"] == 0
    assert running_app.client.post(f"{transform}/retry-failed")["retried_count"] == 0
    assert found(running_app, pile.ids["embedded_dataset_id"]) == [["Log"]]


def test_embedders_of_different_lengths_answer_side_by_side_and_come_and_go(
    running_app: RunningApp, stores: Stores, pile: Pile
):
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    (small,) = running_app.client.get(path)["embedder_ids"]
    upload(running_app, pile, "log.txt")
    stores.wait_until_idle()
    with embedding_server(dimensions=24) as other:
        first, second = use(running_app, pile, small, add_embedder(running_app, other))
        stores.wait_until_idle()
        assert found(running_app, first, second) == [["log.txt"], ["log.txt"]]
        indexes = [index_of(running_app, each) for each in (first, second)]
        assert [stores.vectors(index) for index in indexes] == [1, 1]
        assert use(running_app, pile, small) == [first]
        stores.wait_until_idle()
        assert [stores.vectors(index) for index in indexes] == [1, None]
        body = {"query": "x", "embedded_dataset_ids": [first, second]}
        answer = running_app.http.post("/api/search", json=body)
        assert (answer.status_code, answer.json()["field"]) == (404, "embedded_dataset_ids")
        assert found(running_app, first) == [["log.txt"]]


def test_embedding_cancelled_in_mid_work_stays_so_until_it_is_retried(
    running_app: RunningApp, stores: Stores, pile: Pile, gate: Gate
):
    path, embedded = (
        f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}",
        pile.ids["embedded_dataset_id"],
    )
    dead = stores.dead_jobs()
    upload(running_app, pile, "first.txt")
    gate.wait_until_reached(running_app)
    stopped = running_app.client.post(f"{path}/cancel")
    assert stopped == {"waiting": 0, "running": 1, "affected": 1}
    gate.open()
    upload(running_app, pile, "second.txt", f"{TEXT}Twice.")
    stores.wait_until_idle()
    assert found(running_app, embedded) == [["second.txt"]]
    progress = running_app.client.get(f"/api/embedded-datasets/{embedded}/stats")["progress"]
    assert (progress["cancelled"], progress["left"]) == (1, 0)
    assert running_app.client.post(f"{path}/retry-failed") == {"retried_count": 1}
    stores.wait_until_idle()
    assert sorted(found(running_app, embedded)[0]) == ["first.txt", "second.txt"]
    assert stores.dead_jobs() == dead
