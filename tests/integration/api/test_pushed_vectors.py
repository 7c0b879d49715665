"""Vectors that are made elsewhere: pushed, listed, exported and mapped under the ids that they came with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import NotFoundError
from app.jobs.contracts import BuildVisualization
from app.jobs.vector_counts import VectorCounts
from app.pipeline.projection.base import Projection, ProjectionInput
from app.services.pushed_vectors import PushedPoint
from app.storage.postgres.tables import ChunkRow, Job
from tests.integration.api.conftest import BOB, Api
from tests.integration.jobs.test_visualization_runs import Runner
from tests.support.providers import EmbeddingServer

IDS = [str(UUID(int=number)) for number in range(1, 4)]
POINTS = [
    {"id": key, "vector": [float(number), 1, 0], "payload": {"text": f"text {number}", "n": number}}
    for number, key in enumerate(IDS)
]


@pytest.fixture
def alone(api: Api) -> int:
    made = api.post("/api/embedded-datasets/standalone", {"title": "Ours", "dimensions": 3}, 201)
    assert (made["is_standalone"], made["embedder_id"], made["source_dataset_title"]) == (True, None, None)
    return int(made["embedded_dataset_id"])


def push(api: Api, alone: int, points: Any, status: int = 200) -> Any:
    return api.post(f"/api/embedded-datasets/{alone}/push-vectors", {"points": points}, status)


def test_what_is_pushed_is_listed_under_its_ids(api: Api, alone: int):
    path = f"/api/embedded-datasets/{alone}"
    assert api.get(f"{path}/points") == {"points": [], "total_count": 0, "next_offset": None}
    assert api.get(f"{path}/stats")["chunks_total"] == 0
    pushed = push(api, alone, POINTS)
    assert pushed["points_inserted"] == 3
    assert pushed["collection_name"] == api.get(path)["collection_name"]
    push(api, alone, [POINTS[0] | {"payload": {"text": "new"}}])  # replaces
    first = api.get(f"{path}/points?limit=2")
    rest = api.get(f"{path}/points?limit=2&offset={first['next_offset']}")
    found = {one["id"]: one["payload"] for one in first["points"] + rest["points"]}
    assert found == {key: POINTS[n]["payload"] for n, key in enumerate(IDS)} | {IDS[0]: {"text": "new"}}
    assert api.get(f"{path}/points/{IDS[1]}/vector")["vector"] == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    api.get(f"{path}/points/{uuid4()}/vector", 404)
    stats = api.get(f"{path}/stats")
    assert (stats["chunks_embedded"], stats["progress"]["done"]) == (3, 3)
    several = api.post("/api/embedded-datasets/batch-stats", {"embedded_dataset_ids": [alone]})
    assert several["stats"] == [stats]
    assert api.get("/api/embedded-datasets?search=our")["total_count"] == 1


def test_what_is_exported_is_what_was_pushed(api: Api, alone: int):
    push(api, alone, POINTS)
    lines = api.client.get(f"/api/embedded-datasets/{alone}/export?vectors=true").text.splitlines()
    rows = {row["point_id"]: row for row in map(json.loads, lines)}
    assert {key: row["text"] for key, row in rows.items()} == {key: f"text {n}" for n, key in enumerate(IDS)}
    assert rows[IDS[2]]["payload"] == POINTS[2]["payload"]
    assert len(rows[IDS[2]]["vector"]) == 3


@pytest.mark.parametrize(
    ("points", "field"),
    [
        ([], "points"),
        ([POINTS[0], {"id": IDS[1], "vector": [1, 2]}], "points.1.vector"),
        ([{"id": IDS[1], "vector": [0, 0, 0]}], "points.0.vector"),
        ([{"id": IDS[1], "vector": [1e300, 1, 0]}], "points.0.vector"),
        ([{"id": "seven", "vector": [1, 2, 3]}], "points.0.id"),
        ([POINTS[0]] * 1001, "points"),
    ],
    ids=["none", "too few numbers", "zeros", "too large a number", "no UUID", "too many"],
)
def test_one_bad_point_is_named_and_nothing_is_written(api: Api, alone: int, points: Any, field: str):
    assert push(api, alone, points, 400)["field"] == field
    assert api.get(f"/api/embedded-datasets/{alone}/points")["total_count"] == 0


@pytest.mark.parametrize("dimensions", [0, 65_537])
def test_vectors_have_a_number_of_numbers(api: Api, dimensions: int):
    answer = api.post("/api/embedded-datasets/standalone", {"title": "t", "dimensions": dimensions}, 400)
    assert answer["field"] == "dimensions"


def test_nobody_knows_the_model_that_a_question_would_need(api: Api, alone: int, provider: EmbeddingServer):
    refused = api.post("/api/search", {"query": "x", "embedded_dataset_ids": [alone]}, 400)
    assert refused["field"] == "embedded_dataset_ids"
    llm = api.post("/api/llms", {"name": "l", "provider": "openai", "api_key": "k"}, 201)["llm_id"]
    body = {"embedded_dataset_id": alone, "llm_id": llm}
    assert api.post("/api/chat/sessions", body, 400)["field"] == "embedded_dataset_id"


def test_only_its_owner_pushes_and_only_where_no_transform_does(
    api: Api, alone: int, container: Container, provider: EmbeddingServer
):
    with pytest.raises(NotFoundError):
        container.services.pushing_vectors.push(BOB, alone, [PushedPoint(uuid4(), [1, 2, 3], {})])
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"][0]
    assert "dataset transform" in push(api, made, POINTS, 400)["message"]


def test_an_id_that_is_a_chunks_leads_to_no_text_of_it(
    api: Api, alone: int, container: Container, provider: EmbeddingServer
):
    """Ids are the client's to choose, and texts are found by ids."""
    api.push(api.dataset(), secrets=["nobody else reads this"])
    with container.database.transaction() as session:
        chunk = session.scalars(select(ChunkRow.chunk_id)).one()
    push(api, alone, [{"id": str(chunk), "vector": [1, 2, 3]}])
    assert "nobody else" not in api.client.get(f"/api/embedded-datasets/{alone}/export").text
    [point] = api.get(f"/api/embedded-datasets/{alone}/points")["points"]
    assert point == {"id": str(chunk), "payload": {}}


def test_the_sweep_takes_nothing_of_it_for_lost(api: Api, alone: int, container: Container):
    push(api, alone, POINTS)
    counts = VectorCounts(container.database, container.outbox, container.vectors)
    assert counts.compare(dry_run=False, thorough=True) == []
    assert api.get(f"/api/embedded-datasets/{alone}/points")["total_count"] == 3


class Reader(Runner):
    """Keeps the texts that the map's topics would be named by."""

    texts: list[str]

    def run(self, job: ProjectionInput, **ports: Any) -> Projection:
        assert job.texts_path is not None
        self.texts = sorted(map(json.loads, job.texts_path.read_text().splitlines()))
        assert np.load(job.vectors_path).shape == (3, 3)
        return super().run(job, **ports)


def test_a_map_is_drawn_of_it_and_its_deletion_takes_all(
    api: Api, alone: int, container: Container, work: Callable[[], list[str]]
):
    push(api, alone, POINTS)
    drawn = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": alone}, 201)
    visualization, reader = drawn["last_visualization_id"], Reader(lambda **_: None)
    services = container.services
    with container.database.transaction() as session:
        job_id = session.scalars(select(Job.job_id).where(Job.kind == BuildVisualization.kind)).one()
    run = services.jobs.begin(job_id, "test")
    assert run is not None
    runs = replace(services.visualization_runs, runner=lambda: reader)  # type: ignore[arg-type,return-value]
    runs.build(run, BuildVisualization(visualization, drawn["visualization_transform_id"]))
    assert reader.texts == ["text 0", "text 1", "text 2"]
    points = api.get(f"/api/visualizations/{visualization}/points.json")["points"]
    assert sorted(str(point["point_id"]) for point in points) == IDS
    source = api.get(f"/api/visualizations/{visualization}")
    assert (source["visualization"]["status"], source["source_dataset_id"]) == ("completed", None)
    index = api.get(f"/api/embedded-datasets/{alone}")["collection_name"]
    api.delete(f"/api/embedded-datasets/{alone}")
    work()
    assert not container.vectors.exists(index)
    api.get(f"/api/visualizations/{visualization}", 404)
