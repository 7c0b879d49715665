from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from app.container import Container
from app.storage.postgres.tables import Job
from tests.integration.api.conftest import Api
from tests.support.domain import Recorder
from tests.support.providers import EmbeddingServer, Fault

TEXT = b"The tide rises twice a day.\n\nThe moon pulls at the sea.\n"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"chunking": {"chunk_size": 200, "chunk_overlap": 200}}, "chunking.chunk_overlap"),
        ({"chunking": {"chunk_size": "big"}}, "chunking.chunk_size"),
        ({"chunking": {"strategy": "magic"}}, "chunking.strategy"),
        ({"chunking": []}, "chunking"),
        ({"extraction": {"strategy": "magic"}}, "extraction.strategy"),
        ({"extraction": {"nope": 1}}, "extraction.nope"),
        ({"nope": {}}, "job_config.nope"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_field(api: Api, config: dict[str, Any], field: str):
    body = {
        "title": "t",
        "collection_id": api.collection(),
        "dataset_id": api.dataset(),
        "job_config": config,
    }
    assert api.post("/api/collection-transforms", body, 400)["field"] == field


def test_a_chunk_size_may_stand_beside_the_configuration(api: Api):
    key = api.collection_transform(api.collection(), api.dataset(), chunk_size=400)
    view = api.get(f"/api/collection-transforms/{key}")
    assert view["chunk_size"] == view["job_config"]["chunking"]["chunk_size"] == 400
    changed = api.patch(f"/api/collection-transforms/{key}", {"chunk_size": 500})
    assert changed["job_config"]["chunking"]["chunk_size"] == 500
    assert api.patch(f"/api/collection-transforms/{key}", {"chunk_size": 0}, 400)["field"]


def test_a_new_chunk_size_leaves_the_options_of_a_strategy_as_they_are(api: Api):
    chunking = {"strategy": "code", "options": {"language": "go", "include_imports": False}}
    key = api.collection_transform(api.collection(), api.dataset(), job_config={"chunking": chunking})
    changed = api.patch(f"/api/collection-transforms/{key}", {"chunk_size": 500})["job_config"]["chunking"]
    kept = {"strategy": "code", "language": "go", "include_imports": False, "chunk_size": 500}
    assert kept.items() <= changed.items()
    assert changed["chunk_overlap"] == 50


def test_the_stats_of_a_collection_transform_are_counted_and_failures_retried(
    api: Api, work: Callable[[], list[str]]
):
    collection, dataset = api.collection(), api.dataset()
    key = api.collection_transform(collection, dataset)
    api.upload(collection, ("good.txt", TEXT), ("bad.pdf", b"%PDF-1.7\nthis is not a PDF\n"))
    assert api.get(f"/api/collection-transforms/{key}/stats")["pending_files"] == 2
    work()
    stats = api.get(f"/api/collection-transforms/{key}/stats")
    assert (stats["successful_files"], stats["failed_files"], stats["total_items_created"]) == (1, 1, 1)
    failed = api.get(f"/api/collection-transforms/{key}/processed-files?status=failed")["items"]
    assert [row["name"] for row in failed] == ["bad.pdf"]
    assert api.post(f"/api/collection-transforms/{key}/retry-failed") == {"retried_count": 1}
    assert work().count("extract_file") == 1


def test_a_new_configuration_makes_every_file_new(api: Api, work: Callable[[], list[str]]):
    collection, dataset = api.collection(), api.dataset()
    key = api.collection_transform(collection, dataset)
    api.upload(collection, ("good.txt", TEXT))
    work()
    api.patch(f"/api/collection-transforms/{key}", {"title": "renamed"})
    assert "extract_file" not in work()
    processed = f"/api/collection-transforms/{key}/processed-files"
    assert [row["name"] for row in api.get(processed)["items"]] == ["good.txt"]
    api.patch(f"/api/collection-transforms/{key}", {"chunk_size": 150})
    assert (
        api.get(processed)["items"],
        api.get(f"/api/collection-transforms/{key}/stats")["pending_files"],
    ) == ([], 1)
    assert "extract_file" in work()
    assert [row["state"] for row in api.get(processed)["items"]] == ["succeeded"]


def test_a_disabled_transform_is_not_triggered(api: Api, recorder: Recorder):
    key = api.collection_transform(api.collection(), api.dataset())
    api.patch(f"/api/collection-transforms/{key}", {"is_enabled": False})
    assert api.post(f"/api/collection-transforms/{key}/trigger", {}, 400)["field"] == "is_enabled"


def test_embedders_come_and_go_with_their_vector_indexes(
    api: Api, container: Container, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset, first, second = api.dataset(), api.embedder(provider), api.embedder(provider, name="two")
    api.push(dataset, poem=["Tyger Tyger", "burning bright"])
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [first, second]}
    made = api.post("/api/dataset-transforms", body, 201)
    key = made["transform"]["dataset_transform_id"]
    work()
    stats = api.get(f"/api/dataset-transforms/{key}/stats")
    assert (stats["status"], stats["total_chunks_embedded"], stats["embedder_count"]) == ("completed", 4, 2)
    names = [row["collection_name"] for row in made["embedded_datasets"]]
    assert [container.vectors.count(name) for name in names] == [2, 2]
    api.patch(f"/api/dataset-transforms/{key}", {"embedder_ids": [second]})
    assert "drop_vector_index" in work()
    (left,) = api.get(f"/api/datasets/{dataset}/embedded-datasets")["embedded_datasets"]
    assert left["embedder_id"] == second
    api.delete(f"/api/datasets/{dataset}")
    assert work() == ["drop_vector_index"]


def test_items_that_failed_to_embed_are_counted_and_retried(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset = api.dataset()
    api.push(dataset, poem=["Tyger Tyger"])
    provider.faults.append(Fault("status", status=401, message="bad key"))
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    key = api.post("/api/dataset-transforms", body, 201)["transform"]["dataset_transform_id"]
    work()
    stats = api.get(f"/api/dataset-transforms/{key}/stats")
    assert (stats["status"], stats["total_chunks_failed"], stats["failed_batches"]) == ("failed", 1, 1)
    (batch,) = api.get(f"/api/dataset-transforms/{key}/batches?status=dead")["items"]
    assert "bad key" in batch["error_message"]
    assert api.post(f"/api/dataset-transforms/{key}/retry-failed") == {"retried_count": 1}
    work()
    assert api.get(f"/api/dataset-transforms/{key}/stats")["status"] == "completed"


def test_every_id_in_a_body_must_be_somebodys_own(api: Api, provider: EmbeddingServer):
    collection, dataset, embedder = api.collection(), api.dataset(), api.embedder(provider)
    wrong = {"title": "t", "collection_id": collection, "dataset_id": dataset + 1}
    assert api.post("/api/collection-transforms", wrong, 404)["field"] == "dataset_id"
    wrong = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [embedder + 1]}
    assert api.post("/api/dataset-transforms", wrong, 404)["field"] == "embedder_ids"
    wrong = {"title": "t", "source_dataset_id": dataset, "embedder_ids": []}
    assert api.post("/api/dataset-transforms", wrong, 400)["field"] == "embedder_ids"
    wrong = {"title": "t", "embedded_dataset_id": 1}
    assert api.post("/api/visualization-transforms", wrong, 404)["field"] == "embedded_dataset_id"
    wrong = {"query": "x", "embedded_dataset_ids": [1]}
    assert api.post("/api/search", wrong, 404)["field"] == "embedded_dataset_ids"


def test_each_run_says_how_far_it_is(api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]):
    collection, dataset = api.collection(), api.dataset()
    files = f"/api/collection-transforms/{api.collection_transform(collection, dataset)}"
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    items = f"/api/dataset-transforms/{made['dataset_transform_id']}"
    work()
    assert api.get(f"{files}/runs")["items"] == api.get(f"{items}/runs")["items"] == []
    api.upload(collection, ("good.txt", TEXT), ("bad.pdf", b"%PDF-1.7\nthis is not a PDF\n"))
    (planning,) = api.get(f"{files}/runs")["items"]
    stats = api.get(f"{files}/stats")
    assert (planning["status"], stats["current_run_id"]) == ("planning", planning["run_id"])
    provider.refused_word = "moon"
    api.push(dataset, moons=["The moon pulls."], suns=["The sun shines."])
    work()
    run = api.get(f"{files}/runs/{planning['run_id']}")
    assert (run["status"], run["progress"]["done"], run["progress"]["failed"]) == (
        "completed_with_errors",
        1,
        1,
    )
    runs = api.get(f"{items}/runs")["items"]
    assert [each["progress"]["unit"] for each in runs] == ["items"] * len(runs)
    assert sum(each["progress"]["total"] for each in runs) == 3
    stats = api.get(f"{items}/stats")
    assert sum(each["progress"]["failed"] for each in runs) == stats["per_embedder"][0]["items_failed"] == 2
    assert (stats["current_run_id"], stats["current_run_started_at"]) == (None, None)
    assert api.get(f"{files}/runs/{runs[0]['run_id']}", 404)["code"] == "not_found"
    assert api.get(f"{files}/runs/nothing", 404)["code"] == "not_found"


def test_a_run_of_a_dataset_transform_is_cancelled_planned_or_not(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]], container: Container
):
    dataset = api.dataset()
    api.push(dataset, moons=["The moon pulls."])
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    items = f"/api/dataset-transforms/{made['dataset_transform_id']}"
    (planning,) = api.get(f"{items}/runs")["items"]
    cancel = f"{items}/runs/{planning['run_id']}/cancel"
    assert api.post(cancel) == {"waiting": 0, "running": 0, "affected": 1}
    assert work() == ["plan_dataset_transform"]
    api.push(dataset, suns=["The sun shines."])
    with container.database.transaction() as session:
        plan_id = session.scalars(select(Job.job_id).where(Job.state == "pending")).one()
    plan = container.services.jobs.begin(plan_id, "test")
    assert plan is not None
    container.services.planning.plan_dataset_transform(plan, made["dataset_transform_id"])
    (run,) = api.get(f"{items}/runs")["items"]
    assert (run["status"], run["progress"]["left"]) == ("processing", 1)
    cancel = f"{items}/runs/{run['run_id']}/cancel"
    assert api.post(cancel) == {"waiting": 1, "running": 0, "affected": 1}
    assert work() == []
    assert api.get(f"{items}/runs/{run['run_id']}")["status"] == "cancelled"
    assert api.post(f"{items}/retry-failed") == {"retried_count": 2}
    work()
    assert api.get(f"{items}/stats")["status"] == "completed"
