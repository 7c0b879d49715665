from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer


def walk(api: Api, path: str, field: str) -> list[Any]:
    """All rows, two at a time, by cursor."""
    rows: list[Any] = []
    cursor = ""
    while True:
        page = api.get(f"{path}{cursor}")
        rows += page[field]
        if page["next_cursor"] is None:
            return rows
        cursor = f"&cursor={page['next_cursor']}"


def test_a_walk_by_cursor_finds_each_row_once_in_every_order(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    collection, dataset = api.collection("one"), api.dataset("one")
    for title in ("two", "three", "four", "five"):
        api.collection(title)
        api.dataset(title)
    transform = api.collection_transform(collection, dataset)
    api.upload(collection, *((f"{name}.txt", name.encode() * 9) for name in "abcde"))
    provider.denied_words = frozenset({"dark"})
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    embedding = api.post("/api/dataset-transforms", body, 201)["transform"]["dataset_transform_id"]
    for title, text in (("x", "light"), ("y", "dark"), ("z", "dark matter")):
        api.push(dataset, **{title: [text]})
        work()
    batches = f"/api/dataset-transforms/{embedding}/batches"
    orders = ("created_at", "batch_key", "status", "chunk_count", "processing_duration_ms", "processed_at")
    sorted_batches = [
        (f"{batches}?sort_by={column}&sort_direction={direction}&", "items")
        for column in orders
        for direction in ("asc", "desc")
    ]
    for path, field in (
        ("/api/collections?", "collections"),
        ("/api/collections/search?q=o&", "collections"),
        ("/api/datasets?", "items"),
        ("/api/jobs?", "items"),
        (f"/api/collection-transforms/{transform}/processed-files?", "items"),
        *sorted_batches,
    ):
        whole = api.get(f"{path}limit=1000")
        assert whole["next_cursor"] is None
        assert len(whole[field]) > 2, path
        assert walk(api, f"{path}limit=2", field) == whole[field], path
    items = api.get(f"/api/datasets/{dataset}/items-summary?page_size=100")
    assert walk(api, f"/api/datasets/{dataset}/items-summary?page_size=2", "items") == items["items"]


def test_rows_that_come_meanwhile_shift_nothing(api: Api):
    keys = [api.collection(f"c{number}") for number in range(4)]
    first = api.get("/api/collections?limit=2")
    api.collection("new")
    second = api.get(f"/api/collections?limit=2&cursor={first['next_cursor']}")
    shown = [row["collection_id"] for row in first["collections"] + second["collections"]]
    assert shown == keys[::-1]


@pytest.mark.parametrize("cursor", ["x", "bm8", "W10", "W1siLXVwZGF0ZWRfYXQiXSxbMV1d", "%C3%A4"])
def test_a_cursor_of_something_else_is_refused(api: Api, cursor: str):
    assert api.get(f"/api/collections?cursor={cursor}", 400)["field"] == "cursor"


def test_a_cursor_stands_for_one_order_and_for_no_offset(api: Api):
    for _ in range(3):
        api.collection()
        api.dataset()
    cursor = api.get("/api/datasets?limit=1")["next_cursor"]
    assert api.get(f"/api/collections?cursor={cursor}", 400)["field"] == "cursor"
    assert api.get(f"/api/datasets?cursor={cursor}&offset=1", 400)["field"] == "cursor"


def test_every_window_says_how_many_there_are_in_all(api: Api):
    for title in ("one", "two", "three"):
        api.collection(title)
        api.dataset(title)
        api.post("/api/embedders", {"name": title, "provider": "local"}, 201)
    windows = {
        "limit=3": (3, 3),
        "limit=2": (2, 3),
        "limit=2&offset=2": (1, 3),
        "limit=2&offset=9": (0, 3),
        "limit=1000": (3, 3),
        "limit=2&search=T": (2, 2),
        "limit=1&search=t": (1, 2),
        "limit=2&search=nowhere": (0, 0),
    }
    for path, field in (("collections", "collections"), ("datasets", "items"), ("embedders", "items")):
        found = {window: api.get(f"/api/{path}?{window}") for window in windows}
        shown = {window: (len(page[field]), page["total_count"]) for window, page in found.items()}
        assert shown == windows, path


def test_the_signs_of_a_pattern_are_searched_as_they_stand(api: Api):
    key = api.collection("100%_a/b")
    api.upload(key, ("50%_c.txt", b"x"), ("50x_c.txt", b"y"))
    api.collection("100xxa/b")
    for term in ("0%25_", "_a/", "%25_A/B"):
        (found,) = api.get(f"/api/collections?search={term}")["collections"]
        assert found["collection_id"] == key
    (file,) = api.get(f"/api/collections/{key}/files?search=%25_")["files"]
    assert file["name"] == "50%_c.txt"


def test_the_first_chunks_of_several_items_come_with_each(api: Api):
    dataset = api.dataset()
    api.push(dataset, long=[f"passage {n}" for n in range(120)], short=["alone"])
    page = api.get(f"/api/datasets/{dataset}/items")
    chunks = {one["title"]: [chunk["content"] for chunk in one["chunks"]] for one in page["items"]}
    assert chunks == {"long": [f"passage {n}" for n in range(100)], "short": ["alone"]}
