from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.container import Container
from app.services import exports
from tests.integration.api.conftest import Api
from tests.integration.api.test_visualizations import POINTS, finish
from tests.support.providers import EmbeddingServer

ITEMS = {"tides": ["The tide rises.", "And falls."], "moons": ["The moon pulls.", "At the sea.", "Always."]}


def ndjson(api: Api, path: str) -> list[Any]:
    answer = api.client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/x-ndjson"
    assert "attachment" in answer.headers["Content-Disposition"]
    return [json.loads(line) for line in answer.text.splitlines()]


def parquet(api: Api, path: str) -> list[Any]:
    table = pq.read_table(io.BytesIO(api.client.get(f"{path}format=parquet").data))
    return list(table.to_pylist())


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of batches fall within an item."""
    monkeypatch.setattr(exports, "_ROWS", 2)
    monkeypatch.setattr(exports, "_VECTORS", 2)


def test_a_dataset_comes_out_as_it_went_in(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset = api.dataset()
    assert ndjson(api, f"/api/datasets/{dataset}/export") == []
    assert parquet(api, f"/api/datasets/{dataset}/export?") == []
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    whole = f"/api/embedded-datasets/{made['embedded_dataset_ids'][0]}/export"
    assert ndjson(api, whole) == []
    api.push(dataset, **ITEMS)
    work()
    rows = ndjson(api, f"/api/datasets/{dataset}/export")
    assert [(row["item_title"], row["text"]) for row in rows] == [
        (title, text) for title, texts in ITEMS.items() for text in texts
    ]
    same = parquet(api, f"/api/datasets/{dataset}/export?")
    assert [
        row | {name: json.loads(row[name]) for name in ("metadata", "item_metadata")} for row in same
    ] == rows
    points = ndjson(api, f"{whole}?vectors=true")
    assert {point["point_id"]: point["text"] for point in points} == {
        row["chunk_id"]: row["text"] for row in rows
    }
    assert {len(point["vector"]) for point in points} == {provider.dimensions}
    assert "owner_id" not in points[0]["payload"]
    assert len(parquet(api, f"{whole}?vectors=true&")) == len(rows)
    assert "vector" not in ndjson(api, whole)[0]
    assert api.get(f"{whole}?format=xml", 400)["field"] == "format"


def test_a_map_comes_out_as_coordinates_and_topics(
    api: Api, container: Container, provider: EmbeddingServer, tmp_path: Path
):
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    embedded = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"][0]
    made = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded}, 201)
    path = f"/api/visualizations/{made['last_visualization_id']}/export"
    assert api.get(path, 409)["code"] == "conflict"
    finish(container, made["last_visualization_id"], tmp_path)
    points = ndjson(api, path)
    assert [point["point_id"] for point in points] == [str(key) for key in POINTS]
    assert [(point["x"], point["y"]) for point in points][:2] == [(0.0, 1.0), (2.0, 3.0)]
    assert parquet(api, f"{path}?") == points
    clusters = ndjson(api, f"{path}?what=clusters")
    assert [cluster["size"] for cluster in clusters] == [3, 2]
    assert parquet(api, f"{path}?what=clusters&") == clusters
