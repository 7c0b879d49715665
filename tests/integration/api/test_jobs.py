"""Jobs over HTTP: what is seen of them, how they are stopped, and how far they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from app.container import Container
from app.security.principal import Principal
from app.storage.postgres.tables import AuditEvent, FileExtraction, Job, Visualization
from tests.integration.api.conftest import Api
from tests.support.domain import Recorder
from tests.support.providers import EmbeddingServer

TEXT = b"The tide rises twice a day.\n\nThe moon pulls at the sea.\n"


@pytest.fixture
def transform(api: Api, container: Container) -> int:
    """A collection transform whose plan has recorded jobs for two files."""
    collection = api.collection()
    key = api.collection_transform(collection, api.dataset())
    api.upload(collection, ("a.txt", TEXT), ("b.txt", TEXT + b"!"))
    (plan,) = api.get("/api/jobs?state=pending")["items"]
    services = container.services
    run = services.jobs.begin(plan["job_id"], "test")
    assert run is not None
    services.planning.plan_collection_transform(run, key)
    return key


@pytest.fixture
def map_transform(api: Api, provider: EmbeddingServer) -> int:
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    embedded = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"][0]
    made = api.post("/api/visualization-transforms", {"title": "m", "embedded_dataset_id": embedded}, 201)
    return int(made["visualization_transform_id"])


def test_jobs_are_listed_newest_first_and_narrowed(api: Api, transform: int, map_transform: int):
    kinds = [job["kind"] for job in api.get("/api/jobs")["items"]]
    assert kinds == [
        "build_visualization",
        "plan_dataset_transform",
        "extract_file",
        "extract_file",
        "plan_collection_transform",
    ]
    page = api.get("/api/jobs?limit=1&offset=1")
    assert ([job["kind"] for job in page["items"]], page["total_count"]) == ([kinds[1]], 5)
    scope = f"scope_kind=collection_transform&scope_id={transform}"
    found = api.get(f"/api/jobs?state=pending&kind=extract_file&{scope}")
    assert found["total_count"] == 2
    job = found["items"][0]
    detail = api.get(f"/api/jobs/{job['job_id']}")
    assert (detail == {**detail, **job}, detail["can_cancel"]) == (True, True)
    assert api.get("/api/jobs?kind=nope", 400)["field"] == "kind"
    assert api.get("/api/jobs?state=nope", 400)["field"] == "state"
    assert api.get("/api/jobs?scope_id=1", 400)["field"] == "scope_kind"


def test_one_job_is_cancelled_once_and_cleaning_never(api: Api, container: Container, transform: int):
    job = api.get("/api/jobs?kind=extract_file")["items"][0]["job_id"]
    assert api.post(f"/api/jobs/{job}/cancel")["state"] == "cancelled"
    assert "it is cancelled" in api.post(f"/api/jobs/{job}/cancel", status=409)["message"]
    api.post("/api/jobs/none/cancel", status=404)
    collection = api.get(f"/api/collection-transforms/{transform}")["collection_id"]
    api.delete(f"/api/collections/{collection}")
    cleaning = api.get("/api/jobs?kind=delete_objects")["items"][0]["job_id"]
    assert "deletes" in api.post(f"/api/jobs/{cleaning}/cancel", status=409)["message"]


def test_who_looks_after_everybody_stops_anothers_job_and_that_is_on_record(
    api: Api, container: Container, transform: int
):
    container.services.owners.ensure(Principal("bob", "Bob"))
    job = api.get("/api/jobs?kind=extract_file")["items"][0]["job_id"]
    with container.database.transaction() as session:
        session.execute(update(Job).where(Job.job_id == job).values(owner_id="bob"))
    assert api.get(f"/api/jobs/{job}")["state"] == "pending"
    assert api.post(f"/api/jobs/{job}/cancel")["state"] == "cancelled"
    with container.database.transaction() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.cancelled")).one()
        assert (told.object_id, told.owner_id) == (job, "bob")


def test_a_cancelled_collection_transform_tells_how_many_and_is_retried(
    api: Api, transform: int, work: Callable[[], list[str]]
):
    path = f"/api/collection-transforms/{transform}"
    assert api.post(f"{path}/cancel") == {"waiting": 2, "running": 0, "affected": 2}
    assert api.post(f"{path}/cancel") == {"waiting": 0, "running": 0, "affected": 0}
    (file, _) = api.get(f"{path}/processed-files?status=failed")["items"]
    assert (file["error_code"], "retry" in file["process_error"]) == ("cancelled", True)
    progress = api.get(f"{path}/stats")["progress"]
    assert (progress["failed"], progress["cancelled"], progress["left"]) == (2, 2, 0)
    assert api.post(f"{path}/retry-failed") == {"retried_count": 2}
    assert work().count("extract_file") == 2


def test_a_cancelled_dataset_transform_tells_how_many_and_is_retried(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset = api.dataset()
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [api.embedder(provider)]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    path = f"/api/dataset-transforms/{made['dataset_transform_id']}"
    api.push(dataset, one=["first", "second"], two=["third"])
    assert api.post(f"{path}/cancel") == {"waiting": 0, "running": 0, "affected": 2}
    work()
    stats = api.get(f"{path}/stats")
    assert (stats["status"], stats["progress"]["cancelled"]) == ("failed", 3)
    assert api.post(f"{path}/retry-failed") == {"retried_count": 2}
    work()
    progress = api.get(f"{path}/stats")["progress"]
    assert (progress["done"], progress["left"], progress["eta_seconds"]) == (3, 0, None)
    assert progress["rate"] > 0
    embedded = api.get(f"/api/embedded-datasets/{made['embedded_dataset_ids'][0]}/stats")
    assert embedded["progress"]["done"] == 3


def test_a_cancelled_map_says_so_and_is_built_again(api: Api, map_transform: int, recorder: Recorder):
    path = f"/api/visualization-transforms/{map_transform}"
    assert api.post(f"{path}/cancel") == {"waiting": 1, "running": 0, "affected": 1}
    told = recorder.told[-1]
    assert (told.transform_type, told.transform_id, told.status) == ("visualization", map_transform, "failed")
    run = api.get(f"{path}/stats")["latest_visualization"]
    assert (run["status"], "cancelled" in run["error_message"]) == ("failed", True)
    again = api.post(f"{path}/trigger")["visualization_id"]
    found = api.post(f"/api/visualizations/{again}/cancel")
    assert found == {"waiting": 1, "running": 0, "affected": 1}
    assert api.post(f"/api/visualizations/{again}/cancel")["affected"] == 0
    assert api.get(f"{path}/stats")["progress"]["cancelled"] == 2


def test_the_time_left_comes_from_what_ended_lately_since_the_first_of_it_began(
    api: Api, container: Container, transform: int
):
    now = datetime.now(UTC)
    with container.database.transaction() as session:
        job_id = session.scalars(select(FileExtraction.job_id).limit(1)).one()
        session.execute(
            update(Job).where(Job.job_id == job_id).values(started_at=now - timedelta(seconds=20))
        )
        done = update(FileExtraction).where(FileExtraction.job_id == job_id)
        session.execute(done.values(state="succeeded", processed_at=now))
        session.execute(
            update(Job)
            .where(Job.job_id != job_id, Job.kind == "extract_file")
            .values(state="running", run_token=job_id)
        )
    progress = api.get(f"/api/collection-transforms/{transform}/stats")["progress"]
    counts = {name: progress[name] for name in ("unit", "total", "done", "running", "left")}
    assert counts == {"unit": "files", "total": 2, "done": 1, "running": 1, "left": 1}
    assert progress["rate"] == pytest.approx(1 / 20, rel=0.3)
    assert progress["eta_seconds"] == pytest.approx(20, rel=0.3)
    with container.database.transaction() as session:  # where it began earlier, its end counts
        earlier = update(Job).where(Job.job_id == job_id).values(started_at=now - timedelta(minutes=9))
        session.execute(earlier)
        session.execute(done.values(processed_at=now - timedelta(seconds=40)))
    progress = api.get(f"/api/collection-transforms/{transform}/stats")["progress"]
    assert progress["rate"] == pytest.approx(1 / 40, rel=0.3)
    with container.database.transaction() as session:
        session.execute(done.values(processed_at=now - timedelta(minutes=6)))
    assert api.get(f"/api/collection-transforms/{transform}/stats")["progress"]["eta_seconds"] is None


def test_a_map_in_the_making_tells_its_time_left(api: Api, container: Container, map_transform: int):
    with container.database.transaction() as session:
        started = func.now() - timedelta(seconds=30)
        session.execute(update(Visualization).values(status="processing", progress=0.25, started_at=started))
    progress = api.get(f"/api/visualization-transforms/{map_transform}/stats")["progress"]
    assert (progress["unit"], progress["running"], progress["left"]) == ("maps", 1, 1)
    assert progress["eta_seconds"] == pytest.approx(90, rel=0.3)
    (run,) = api.get("/api/visualizations")["items"]
    assert run["eta_seconds"] == pytest.approx(90, rel=0.3)
