"""What a client is told while a server is away. A port where nothing listens stands for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.jobs.outbox import Outbox
from tests.integration.api.conftest import Api
from tests.support.domain import Recorder
from tests.support.providers import EmbeddingServer

NOBODY = "127.0.0.1:9"
Without = Callable[..., Api]


@pytest.fixture
def without(settings: Settings, recorder: Recorder) -> Iterator[Without]:
    """The same application with some settings changed."""
    made = []

    def change(**changes: Any) -> Api:
        values = MappingProxyType({**settings.values, **changes})
        container = build(replace(settings, values=values))
        vars(container)["outbox"] = Outbox(recorder)
        made.append(container)
        return Api(create_app(container).test_client())

    yield change
    for container in made:
        container.close()
        container.broker.close()  # readiness has asked NATS


def test_without_postgres_nothing_is_answered_and_readiness_says_why(without: Without, container: Container):
    container.blobs.ensure_bucket()
    api = without(database_url=f"postgresql://x@{NOBODY}/x")
    answer = api.get("/api/collections", 503)
    assert (answer["code"], "Postgres" in answer["message"]) == ("unavailable", True)
    answers = (api.get("/health/ready", 503) for _ in range(30))
    # The first checks of a process load the servers' libraries, and may take too long for it.
    ready = next(answer for answer in answers if answer["components"]["s3"]["status"] == "healthy")
    assert ready["status"] == "unhealthy"
    assert ready["components"]["postgres"]["status"] == "unhealthy"


def test_without_object_storage_and_tika_readiness_names_what_is_missing_and_stays(without: Without):
    api = without(aws_endpoint_url=f"http://{NOBODY}", tika_server_endpoint=f"http://{NOBODY}")
    missing = ["uploads, downloads and maps", "extraction of most file types"]
    answers = (api.client.get("/health/ready") for _ in range(30))
    # The first checks of a process load the servers' libraries, and may take too long for it.
    status, ready = next(
        (answer.status_code, answer.json)
        for answer in answers
        if answer.json and answer.json["without"] == missing
    )
    assert (status, ready["status"]) == (200, "degraded")
    assert [name for name, part in ready["components"].items() if part["error"]] == ["s3", "tika"]


def test_a_client_is_told_when_to_come_back(without: Without):
    client: FlaskClient = without(database_url=f"postgresql://x@{NOBODY}/x").client
    assert int(client.get("/api/collections").headers["Retry-After"]) >= 1


def test_without_object_storage_an_upload_is_refused_and_leaves_nothing(api: Api, without: Without):
    key = api.collection()
    away = without(aws_endpoint_url=f"http://{NOBODY}")
    assert away.upload(key, ("a.txt", b"hello"), status=503)["code"] == "unavailable"
    assert api.get(f"/api/collections/{key}/files")["files"] == []


def test_without_the_vector_store_a_search_says_so_in_its_block(
    api: Api, without: Without, provider: EmbeddingServer
):
    body = {"title": "t", "source_dataset_id": api.dataset(), "embedder_ids": [api.embedder(provider)]}
    ids = api.post("/api/dataset-transforms", body, 201)["transform"]["embedded_dataset_ids"]
    away = without(qdrant_url=f"http://{NOBODY}")
    (block,) = away.post("/api/search", {"query": "x", "embedded_dataset_ids": ids})["results"]
    assert (block["error_code"], block["matches"]) == ("unavailable", [])
    assert away.get(f"/api/embedded-datasets/{ids[0]}/points", 503)["code"] == "unavailable"


def test_without_a_master_key_a_key_is_not_kept_and_the_message_names_the_setting(
    without: Without, provider: EmbeddingServer
):
    api = without(encryption_master_key=None)
    body = {"name": "x", "provider": "openai", "base_url": provider.openai_url, "api_key": "sk"}
    assert "ENCRYPTION_MASTER_KEY" in api.post("/api/embedders", body, 503)["message"]
    assert api.get("/api/embedders")["total_count"] == 0
