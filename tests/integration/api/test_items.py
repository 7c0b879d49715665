from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer

POEM = ["Tyger Tyger, burning bright,", "In the forests of the night;"]


def test_pushed_chunks_lie_exactly_in_the_text_of_their_item(api: Api):
    dataset = api.dataset()
    assert api.push(dataset, poem=POEM)["completed"] == 1
    (item,) = api.get(f"/api/datasets/{dataset}/items-summary")["items"]
    text = api.get(f"/api/items/{item['item_id']}/text")["text"]
    chunks = api.get(f"/api/datasets/{dataset}/items/{item['item_id']}/chunks")["chunks"]
    assert [chunk["content"] for chunk in chunks] == POEM
    assert [text[chunk["start_char"] : chunk["end_char"]] for chunk in chunks] == POEM
    assert all(chunk["token_count"] > 3 for chunk in chunks)


def test_pushing_a_title_again_replaces_the_item(api: Api):
    dataset = api.dataset()
    first = api.push(dataset, poem=POEM)["item_ids"]
    assert api.push(dataset, poem=["Only this."])["item_ids"] == first
    (item,) = api.get(f"/api/datasets/{dataset}/items")["items"]
    assert [chunk["content"] for chunk in item["chunks"]] == ["Only this."]
    assert api.get(f"/api/datasets/{dataset}")["total_chunks"] == 1


def test_a_passage_comes_with_its_document_and_what_stands_around_it(api: Api):
    dataset = api.dataset()
    api.push(dataset, poem=POEM)
    item = api.get(f"/api/datasets/{dataset}/items")["items"][0]
    passage = api.get(f"/api/chunks/{item['chunks'][1]['chunk_id']}?context_chars=9")
    assert passage["item"]["title"] == "poem"
    assert passage["before"] == " bright,\n\n"[-9:]
    assert passage["after"] == ""
    assert api.get(f"/api/chunks/{uuid4()}", 404)["code"] == "not_found"
    assert api.get("/api/chunks/7", 404)["code"] == "not_found"


def test_bad_pushes_name_the_item_and_the_rule(api: Api):
    path = f"/api/datasets/{api.dataset()}/items"
    chunk = {"content": "x"}
    assert api.post(path, {"items": []}, 400)["field"] == "items"
    assert api.post(path, {"items": [{"title": "a", "chunks": []}]}, 400)["field"] == "items.0.chunks"
    assert api.post(path, {"items": [{"title": " ", "chunks": [chunk]}]}, 400)["field"] == "items.0.title"
    blank = {"items": [{"title": "a", "chunks": [chunk, {"content": " "}]}]}
    assert api.post(path, blank, 400)["field"] == "items.0.chunks.1.content"
    nul = {"items": [{"title": "a", "chunks": [chunk], "metadata": {"k": "a\x00"}}]}
    assert api.post(path, nul, 400)["code"] == "invalid_input"


def test_a_push_may_be_larger_than_other_bodies(api: Api):
    dataset = api.dataset()
    api.push(dataset, long=["word " * 1000] * 300)
    assert api.post("/api/collections", {"title": "x", "details": "y" * 2**20}, 413)["code"] == "too_large"


def test_deleting_an_item_takes_its_chunks_its_vectors_and_its_place_in_answers(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset = api.dataset()
    (first, second) = api.push(dataset, one=POEM, two=["Something else."])["item_ids"]
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)
    work()
    (embedded,) = made["transform"]["embedded_dataset_ids"]
    points = f"/api/embedded-datasets/{embedded}/points"
    assert api.get(points)["total_count"] == 3
    api.delete(f"/api/datasets/{dataset}/items/{first}")
    work()
    assert {point["payload"]["item_id"] for point in api.get(points)["points"]} == {second}
    assert api.get(f"/api/datasets/{dataset}")["total_chunks"] == 1
    assert api.get(f"/api/datasets/{dataset}/items/{first}/chunks", 404)["code"] == "not_found"
    (block,) = api.post("/api/search", {"query": POEM[0], "embedded_dataset_ids": [embedded]})["results"]
    assert [match["item_title"] for match in block["matches"]] == ["two"]
