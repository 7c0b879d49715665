from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from flask.testing import FlaskClient

from app.container import Container
from tests.integration.api.conftest import Api
from tests.support.providers import EmbeddingServer


def test_a_batch_is_read_counted_sorted_and_retried(
    api: Api, provider: EmbeddingServer, work: Callable[[], list[str]]
):
    dataset, embedder = api.dataset(), api.embedder(provider)
    body = {"title": "t", "source_dataset_id": dataset, "embedder_ids": [embedder]}
    made = api.post("/api/dataset-transforms", body, 201)["transform"]
    one, embedded = f"/api/dataset-transforms/{made['dataset_transform_id']}", made["embedded_dataset_ids"]
    api.push(dataset, tides=["The tide rises.", "And falls."])
    work()
    provider.denied_words = frozenset({"moon"})
    api.push(dataset, moons=["The moon pulls."])
    work()
    good, bad = api.get(f"{one}/batches?sort_by=chunk_count&sort_direction=asc")["items"]
    assert api.get(f"{one}/batches/{good['batch_key']}") == good
    assert (good["status"], good["chunk_count"], bad["status"]) == ("success", 2, "failed")
    assert (good["state"], bad["state"]) == ("succeeded", "dead")
    listed = f"/api/embedded-datasets/{embedded[0]}/processed-batches?limit=5000&status="
    for words, batch in ((("success", "succeeded"), good), (("failed", "dead"), bad)):
        for word in words:
            assert (
                api.get(f"{listed}{word}")["items"]
                == api.get(f"{one}/batches?status={word}")["items"]
                == [batch]
            )
    assert api.get(f"{listed}processing")["items"] == []
    assert good["processing_duration_ms"] >= 0
    done = api.get(f"{one}/stats")
    assert (done["total_batches_dispatched"], done["total_chunks_dispatched"]) == (2, 3)
    assert (done["status"], done["current_run_id"], done["current_run_started_at"]) == (
        "completed_with_errors",
        None,
        None,
    )
    stats = api.get(f"{one}/batches/stats")
    shown = ("total_batches", "successful_batches", "failed_batches", "total_items", "total_chunks_embedded")
    assert [stats[name] for name in shown] == [2, 1, 1, 2, 2]
    assert api.get(f"{one}/batches/{uuid4()}", 404)["code"] == "not_found"
    several = api.post("/api/embedded-datasets/batch-stats", {"embedded_dataset_ids": embedded})["stats"]
    assert [each["chunks_embedded"] for each in several] == [2]
    provider.denied_words = frozenset()
    assert api.post(f"{one}/batches/{good['batch_key']}/retry") == {"retried_count": 0}
    assert api.post(f"{one}/batches/{bad['batch_key']}/retry") == {"retried_count": 1}
    again = api.get(f"{one}/stats")
    plan = api.get(f"/api/jobs/{again['current_run_id']}")
    assert (plan["kind"], plan["state"]) == ("plan_dataset_transform", "pending")
    assert again["current_run_started_at"] == plan["started_at"] is None  # it waits
    work()
    assert api.get(f"{one}/stats")["status"] == "completed"


def test_a_part_of_a_file_is_downloaded(api: Api, client: FlaskClient):
    collection = api.collection()
    key = api.upload(collection, ("a.txt", b"0123456789"))["completed"][0]["key"]
    path = f"/api/collections/{collection}/files/{key}"

    def get(**headers: str) -> tuple[int, bytes, str | None]:
        answer = client.get(path, headers={name.replace("_", "-"): each for name, each in headers.items()})
        return answer.status_code, answer.data, answer.headers.get("Content-Range")

    etag = client.get(path).headers["ETag"]
    assert get(Range="bytes=2-4") == (206, b"234", "bytes 2-4/10")
    assert get(Range="bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert get(Range="bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert get(Range="bytes=2-4", If_Range=etag)[0] == 206
    whole = (200, b"0123456789", None)
    assert [get(Range="bytes=0-1,4-5"), get(Range="lines=1-2"), get(Range="bytes=2-4", If_Range='"x"')] == [
        whole
    ] * 3
    assert get(If_None_Match=etag)[:2] == (304, b"")
    beyond = client.get(path, headers={"Range": "bytes=10-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */10")
    assert beyond.json is not None
    assert beyond.json["code"] == "range_not_satisfiable"


def test_the_admin_sees_streams_consumers_and_dead_letters(api: Api, container: Container):
    container.apply_topology(dry_run=False)
    status = api.get("/api/status/nats")
    assert status["connection"]["state"] == "connected"
    names = {stream["name"] for stream in status["streams"]}
    assert {"COLLECTION_TRANSFORMS", "DLQ_TRANSFORMS", "TRANSFORM_STATUS"} <= names
    assert {"messages", "bytes", "retention"} <= status["streams"][0].keys()
    assert {consumer["stream"] for consumer in status["consumers"]} >= {"DATASET_TRANSFORMS"}
    assert status["dlq"]["total_messages"] == sum(one["count"] for one in status["dlq"]["by_subject"])
    assert api.client.get("/health").data == b"ok"
