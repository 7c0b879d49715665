from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient

from app.container import Container
from app.jobs.vector_counts import VectorCounts
from app.services.standalone import MOST_POINTS, PAYLOAD_BYTES
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer

TIGER, TIDE, STOVE = (UUID(int=number << 96) for number in (1, 2, 3))


def standalone(api: Api, **more: Any) -> int:
    body = {"title": "Pushed", "dimensions": 3, **more}
    return int(api.post("/api/embedded-datasets/standalone", body, 201)["embedded_dataset_id"])


def push(api: Api, key: int, *points: tuple[UUID, list[float], Any], status: int = 200) -> Any:
    sent = [{"id": str(point), "vector": vector, "payload": payload} for point, vector, payload in points]
    return api.post(f"/api/embedded-datasets/{key}/push-vectors", {"points": sent}, status)


@pytest.fixture
def pushed(api: Api) -> int:
    key = standalone(api)
    push(
        api,
        key,
        (TIGER, [1.0, 0.0, 0.0], {"text": "the tiger", "item_title": "Zoo", "language": "en", "shelf": 7}),
        (TIDE, [0.0, 1.0, 0.0], {"text": "the tide", "item_id": 9, "owner_id": "bob"}),
        (STOVE, [0.0, 0.9, 0.1], {"text": "a stove", "item_id": 9}),
    )
    return key


def search(api: Api, key: int, **more: Any) -> Any:
    body = {"vector": [1.0, 0.1, 0.0], "embedded_dataset_ids": [key], **more}
    (block,) = api.post("/api/search", body)["results"]
    return block


def test_it_names_no_transform_dataset_or_embedder(api: Api):
    key = standalone(api)
    view = api.get(f"/api/embedded-datasets/{key}")
    assert view["is_standalone"] is True
    ids = ("dataset_transform_id", "source_dataset_id", "embedder_id")
    assert [view[name] for name in ids] == [0, 0, 0]
    assert (view["source_dataset_title"], view["embedder_name"], view["dimensions"]) == (None, None, 3)
    assert (view["collection_id"], view["collection_title"]) == (None, None)
    assert [row["title"] for row in api.get("/api/embedded-datasets")["embedded_datasets"]] == ["Pushed"]
    assert api.get(f"/api/embedded-datasets/{key}/points")["points"] == []


def test_points_are_counted_listed_and_replaced_by_id(api: Api, pushed: int):
    again = push(api, pushed, (TIGER, [0.0, 0.0, 2.0], {"text": "a lion"}))
    assert again["points_inserted"] == 1
    assert again["collection_name"] == api.get(f"/api/embedded-datasets/{pushed}")["collection_name"]
    page = api.get(f"/api/embedded-datasets/{pushed}/points")
    assert page["total_count"] == 3
    assert page["points"][0]["payload"]["text"] == "a lion"
    assert api.get(f"/api/embedded-datasets/{pushed}/points/{TIGER}/vector")["vector"] == [0.0, 0.0, 1.0]
    stats = api.get(f"/api/embedded-datasets/{pushed}/stats")
    assert (stats["chunks_embedded"], stats["embedder_name"]) == (3, None)


def test_one_point_is_deleted_and_the_others_stay(api: Api, pushed: int):
    points = f"/api/embedded-datasets/{pushed}/points"
    api.delete(f"{points}/{TIDE}", 204)
    page = api.get(points)
    assert [point["id"] for point in page["points"]] == [str(TIGER), str(STOVE)]
    assert api.delete(f"{points}/{TIDE}", 404)["message"] == f"no point {TIDE}"
    assert api.delete(f"{points}/{uuid4()}", 404)["code"] == "not_found"
    assert api.delete(f"/api/embedded-datasets/{standalone(api)}/points/{TIGER}", 404)["code"] == "not_found"
    assert api.get(f"{points}/{TIGER}/vector")["vector"] == [1.0, 0.0, 0.0]


def test_what_was_pushed_counts_as_used(api: Api, pushed: int):
    before = api.get("/api/usage")
    other = standalone(api, dimensions=2)
    push(api, other, (TIGER, [1.0, 1.0], {}))
    usage = api.get("/api/usage")
    assert (usage["vectors"], usage["vector_bytes"]) == (before["vectors"] + 1, before["vector_bytes"] + 8)
    assert before["vectors"] >= 3
    api.delete(f"/api/embedded-datasets/{pushed}/points/{TIDE}", 204)
    assert api.get("/api/usage")["vectors"] == usage["vectors"] - 1


def test_a_vector_finds_what_was_pushed_with_its_payload(api: Api, pushed: int):
    block = search(api, pushed, query="tiger")
    first = block["matches"][0]
    assert (first["id"], first["text"], first["item_title"]) == (str(TIGER), "the tiger", "Zoo")
    assert (first["metadata"], first["highlights"]) == (
        {"language": "en", "shelf": 7},
        [{"start": 4, "end": 9}],
    )
    assert [match["text"] for match in block["matches"]] == ["the tiger", "the tide", "a stove"]
    assert [match["text"] for match in search(api, pushed, filters={"item_id": 9})["matches"]] == [
        "the tide",
        "a stove",
    ]
    documents = search(api, pushed, search_mode="documents")["documents"]
    assert [(one["chunk_count"], one["best_chunk"]["text"]) for one in documents] == [
        (1, "the tiger"),
        (2, "the tide"),
    ]


def test_what_a_search_cannot_do_here_its_block_says(api: Api, pushed: int):
    assert search(api, pushed, vector=[1.0])["error_code"] == "invalid_input"
    (block,) = api.post("/api/search", {"query": "tiger", "embedded_dataset_ids": [pushed]})["results"]
    assert "search them with a vector" in block["error"]
    assert "hybrid" in search(api, pushed, query="tiger", hybrid=True)["error"]
    refused = api.post("/api/search", {"embedded_dataset_ids": [pushed]}, 400)
    assert refused["field"] == "query"
    zero = {"embedded_dataset_ids": [pushed], "vector": [0.0, 0.0, 0.0]}
    assert api.post("/api/search", zero, 400)["field"] == "vector"
    body = {"embedded_dataset_id": pushed, "llm_id": 1}
    assert api.post("/api/chat/sessions", body, 400)["field"] == "embedded_dataset_id"


def test_words_are_searched_where_the_embedder_is_named(api: Api, provider: EmbeddingServer):
    embedder = api.embedder(provider)
    wrong = {"title": "x", "dimensions": provider.dimensions + 1, "embedder_id": embedder}
    assert api.post("/api/embedded-datasets/standalone", wrong, 400)["field"] == "dimensions"
    key = standalone(api, dimensions=provider.dimensions, embedder_id=embedder)
    for text in ("the tiger burns bright", "an oven bakes bread"):
        push(api, key, (uuid4(), provider.vector(text), {"text": text}))
    (block,) = api.post("/api/search", {"query": "tiger bright", "embedded_dataset_ids": [key]})["results"]
    assert (block["matches"][0]["text"], block["embedder_name"]) == ("the tiger burns bright", "stub")
    assert api.delete(f"/api/embedders/{embedder}", 409)["code"] == "conflict"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": "seven"}, "points.1.id"),
    ({"id": str(TIGER)}, "points.1.id"),
    ({"vector": [1.0, 2.0]}, "points.1.vector"),
    ({"vector": [1e300, 0.0, 0.0]}, "points.1.vector"),
    ({"vector": [0.0, 0.0, 0.0]}, "points.1.vector"),
    ({"payload": {"item_id": "a"}}, "points.1.payload.item_id"),
    ({"payload": {"text": "x" * PAYLOAD_BYTES}}, "points.1.payload"),
]


def test_one_wrong_point_is_named_and_nothing_is_written(api: Api, container: Container):
    key = standalone(api)
    good = {"id": str(TIGER), "vector": [1.0, 0.0, 0.0], "payload": {}}
    for point, field in WRONG:
        body = {"points": [good, {**good, "id": str(TIDE), **point}]}
        assert api.post(f"/api/embedded-datasets/{key}/push-vectors", body, 400)["field"] == field
    assert not container.vectors.exists(api.get(f"/api/embedded-datasets/{key}")["collection_name"])


def test_batches_and_targets_have_limits(api: Api, provider: EmbeddingServer):
    key = standalone(api)
    many: list[tuple[UUID, list[float], Any]] = [
        (UUID(int=number), [1.0, 0.0, 0.0], {}) for number in range(MOST_POINTS + 1)
    ]
    assert push(api, key, *many, status=400)["field"] == "points"
    assert push(api, key, *many[:-1])["points_inserted"] == MOST_POINTS
    assert push(api, key, status=400)["field"] == "points"
    assert api.post("/api/embedded-datasets/standalone", {"title": "x", "dimensions": 0}, 400)
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    kept = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"][0]
    assert "standalone" in push(api, kept, many[0], status=400)["message"]


def test_an_export_has_all_and_a_deletion_leaves_none(
    api: Api, client: FlaskClient, container: Container, pushed: int, work: Callable[[], list[str]]
):
    index = api.get(f"/api/embedded-datasets/{pushed}")["collection_name"]
    rows = client.get(f"/api/embedded-datasets/{pushed}/export?format=ndjson&vectors=true").text.splitlines()
    assert len(rows) == 3
    assert '"the tiger"' in rows[0]
    counts = VectorCounts(container.database, container.outbox, container.vectors)
    assert counts.compare(dry_run=True, thorough=True) == []  # no row promises them: they are no surplus
    api.delete(f"/api/embedded-datasets/{pushed}")
    assert work() == ["drop_vector_index"]
    assert not container.vectors.exists(index)


def test_the_search_page_searches_what_was_pushed_and_links_to_no_document(
    api: Api, provider: EmbeddingServer
):
    embedder = api.embedder(provider)
    key = standalone(api, title="Moved here", dimensions=provider.dimensions, embedder_id=embedder)
    text = "the tiger burns bright"
    payload = {"text": text, "item_title": "Poems", "page": 7}
    push(api, key, (uuid4(), provider.vector(text), payload))
    for mode in ("documents", "chunks"):
        page = api.client.get("/search", query_string={"q": "tiger bright", "mode": mode}).text
        assert ("Moved here" in page, "Poems" in page, "page 7" in page) == (True, True, True)
        assert "/documents/" not in page
