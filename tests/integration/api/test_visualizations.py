from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from app.container import Container
from app.pipeline.projection import arrow
from app.pipeline.projection.base import Projection
from app.storage.postgres.tables import Job, Visualization, VisualizationCluster
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer

POINTS = [uuid4() for _ in range(5)]


@pytest.fixture
def transform(api: Api, provider: EmbeddingServer) -> dict[str, int]:
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    embedded = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"][0]
    made = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded}, 201)
    return {
        "embedded": embedded,
        "transform": made["visualization_transform_id"],
        "run": made["last_visualization_id"],
    }


def finish(container: Container, run: int, folder: Path) -> None:
    """What the pool would have written."""
    projection = Projection(
        points=np.arange(10, dtype=np.float32).reshape(5, 2),
        labels=np.array([0, 0, 1, 1, -1], np.int32),
        probabilities=np.ones(5, np.float32),
        nearest_topic=np.array([0, 0, 1, 1, 1], np.int32),
        topics=(),
        quality={},
        timings_seconds={},
    )
    path, key = folder / "points.arrow", f"visualizations/{run}/{uuid4()}.arrow"
    arrow.write_points(path, projection, POINTS, [1, 1, 2, 2, 3])
    container.blobs.put_file(key, path, media_type="application/vnd.apache.arrow.file")
    with container.database.transaction() as session:
        row = session.get_one(Visualization, run)
        row.status, row.progress, row.points_key, row.point_count, row.cluster_count = (
            "completed",
            1.0,
            key,
            5,
            2,
        )
        for topic, size in ((0, 2), (1, 3)):
            session.add(
                VisualizationCluster(
                    visualization_id=run,
                    cluster_id=topic,
                    name=f"topic {topic}",
                    keywords=["a", "b"],
                    size=size,
                    x=0.0,
                    y=1.0,
                    zoom=0,
                    name_source="keywords",
                    exemplar_chunk_ids=[POINTS[0]],
                )
            )


def test_creating_a_transform_starts_its_first_run(api: Api, container: Container, transform: dict[str, int]):
    view = api.get(f"/api/visualization-transforms/{transform['transform']}")
    assert (view["last_run_status"], view["visualization_config"]["n_neighbors"]) == ("pending", 15)
    with container.database.transaction() as session:
        run = session.get_one(Visualization, transform["run"])
        job = session.scalars(select(Job).where(Job.kind == "build_visualization")).one()
        assert job.job_id == run.job_id
        assert job.arguments["visualization_id"] == transform["run"]
    assert (
        api.post(f"/api/visualization-transforms/{transform['transform']}/trigger", {}, 409)["code"]
        == "conflict"
    )
    assert api.get(f"/api/visualizations/{transform['run']}/points.json", 409)["code"] == "conflict"


def test_a_finished_map_gives_points_topics_and_itself(
    api: Api, client: FlaskClient, container: Container, transform: dict[str, int], tmp_path: Path
):
    run = transform["run"]
    asked_for = f"/api/visualization-transforms/{transform['transform']}/visualizations/{run}/download"
    assert api.get(asked_for, 202)["status"] == "pending"
    finish(container, run, tmp_path)
    shown = client.get(asked_for, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (shown.status_code, shown.location) == (303, f"/maps/{transform['transform']}?run={run}")
    page = client.get(shown.location).text
    assert ('id="map"' in page, 'data-passages="/maps/passages"' in page) == (True, True)
    for headers, query in (({"Accept": "*/*"}, ""), ({"Accept": "text/html"}, "?download=true")):
        file = client.get(f"{asked_for}{query}", headers=headers)
        assert (file.status_code, file.headers["Content-Disposition"][:10]) == (200, "attachment")
    clusters = api.get(f"/api/visualizations/{run}/clusters")["clusters"]
    assert [cluster["name"] for cluster in clusters] == ["topic 1", "topic 0"]
    answer = client.get(f"/api/visualizations/{run}/points")
    table = pa.ipc.open_file(pa.BufferReader(answer.data)).read_all()
    assert table.num_rows == 5
    kept = client.get(f"/api/visualizations/{run}/points", headers={"If-None-Match": answer.headers["ETag"]})
    assert kept.status_code == 304
    page = api.get(f"/api/visualizations/{run}/points.json?limit=2&offset=3")
    assert [row["point_id"] for row in page["points"]] == [str(each) for each in POINTS[3:]]
    assert page["total_count"] == 5
    whole = api.get(f"/api/visualizations/{run}/download")
    assert len(whole["points"]) == 5
    assert whole["visualization"]["embedded_dataset_id"] == transform["embedded"]
    (recent,) = api.get("/api/visualizations/recent")["items"]
    assert recent["visualization_id"] == run


def test_another_run_follows_and_deletion_takes_the_files(
    api: Api, container: Container, transform: dict[str, int], tmp_path: Path
):
    finish(container, transform["run"], tmp_path)
    again = api.post(f"/api/visualization-transforms/{transform['transform']}/trigger")
    assert again["visualization_id"] > transform["run"]
    stats = api.get(f"/api/visualization-transforms/{transform['transform']}/stats")
    assert (stats["total_runs"], stats["successful_runs"], stats["active_runs"]) == (2, 1, 1)
    runs = api.get(f"/api/embedded-datasets/{transform['embedded']}/visualizations")["items"]
    assert [row["visualization_id"] for row in runs] == [again["visualization_id"], transform["run"]]
    api.delete(f"/api/visualization-transforms/{transform['transform']}")
    with container.database.transaction() as session:
        (job,) = session.scalars(select(Job).where(Job.kind == "delete_objects"))
        assert len(job.arguments["keys"]) == 1


def test_a_configuration_that_cannot_work_is_refused_by_field(api: Api, transform: dict[str, int]):
    for config, field in (
        ({"n_neighbors": 1}, "visualization_config.n_neighbors"),
        ({"nope": 1}, "visualization_config.nope"),
    ):
        body = {"title": "m", "embedded_dataset_id": transform["embedded"], "visualization_config": config}
        assert api.post("/api/visualization-transforms", body, 400)["field"] == field
