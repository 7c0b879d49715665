"""A server or a provider goes away while work is under way: it waits, says why, and is done afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devstack.client import Pile
from tests.support.app_processes import RunningApp
from tests.support.providers import EmbeddingServer, Fault, embedding_server

TEXT = b"The committee met in October and decided to postpone the harbour extension by a year. " * 5


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    with embedding_server(dimensions=8) as server:
        yield server


def stats(app: RunningApp, pile: Pile) -> dict[str, Any]:
    answer: dict[str, Any] = app.client.get(
        f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/stats"
    )
    return answer


def wait_until_embedded(app: RunningApp, pile: Pile) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        now = stats(app, pile)
        return now if now["total_chunks_embedded"] == now["total_chunks_to_process"] > 0 else None

    answer: dict[str, Any] = app.wait_for("every passage to have its vector", done)
    return answer


def use_remote_embedder(app: RunningApp, pile: Pile, provider: EmbeddingServer) -> None:
    body = {
        "name": "remote",
        "provider": "openai",
        "base_url": provider.openai_url,
        "api_key": "sk-canary",
        "config": {"model": "stub"},
        "dimensions": 8,
        "batch_size": 16,
    }
    embedder = app.client.post("/api/embedders", body)
    assert "sk-canary" not in str(embedder)
    response = app.http.patch(
        f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}",
        json={"embedder_ids": [embedder["embedder_id"]]},
    )
    response.raise_for_status()


def test_a_provider_that_fails_for_a_while_costs_a_retry_and_nothing_else(
    running_app: RunningApp, provider: EmbeddingServer
):
    pile = running_app.pile("Provider down")
    use_remote_embedder(running_app, pile, provider)
    provider.faults.extend([Fault("status", status=500)] * 6)
    running_app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT)])
    done = wait_until_embedded(running_app, pile)
    assert done["failed_batches"] == 0
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/batches"
    assert running_app.client.get(path)["items"][0]["attempt"] == 2


def test_a_provider_that_refuses_the_key_fails_the_batch_at_once_with_its_words(
    running_app: RunningApp, provider: EmbeddingServer
):
    pile = running_app.pile("Wrong key")
    use_remote_embedder(running_app, pile, provider)
    provider.faults.append(Fault("status", status=401, message="Incorrect API key provided"))
    running_app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT)])
    failed = running_app.wait_for(
        "the batch to fail", lambda: stats(running_app, pile)["total_chunks_failed"]
    )
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    (batch,) = running_app.client.get(f"{path}/batches")["items"]
    assert failed > 0
    assert "Incorrect API key" in batch["error_message"]
    assert "sk-canary" not in batch["error_message"]
    running_app.client.post(f"{path}/retry-failed")
    wait_until_embedded(running_app, pile)


def test_a_vector_store_that_is_away_is_waited_for(running_app: RunningApp):
    pile = running_app.pile("Vector store down")
    running_app.stack.kill("vector")
    try:
        running_app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT)])
        path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/batches"

        def waiting() -> dict[str, Any] | None:
            batches = running_app.client.get(path)["items"]
            return next((one for one in batches if one["error_message"]), None)

        batch = running_app.wait_for("the batch to be retried", waiting)
        assert "Qdrant" in batch["error_message"]
        ready = running_app.http.get("/health/ready")
        assert (ready.status_code, ready.json()["components"]["qdrant"]["status"]) != (200, "healthy")
    finally:
        running_app.stack.restart("vector")
    wait_until_embedded(running_app, pile)


def test_files_uploaded_while_nats_is_away_are_worked_on_later(running_app: RunningApp):
    pile = running_app.pile("NATS down")
    running_app.stack.kill("nats")
    try:
        outcome = running_app.upload(pile.ids["collection_id"], [("minutes.txt", TEXT)])
        assert len(outcome["completed"]) == 1
    finally:
        running_app.stack.restart("nats")
    wait_until_embedded(running_app, pile)


def test_readiness_says_which_server_is_away_and_recovers(running_app: RunningApp):
    running_app.stack.kill("postgres")
    try:

        def away() -> Any:
            answer = running_app.http.get("/health/ready")
            return answer if answer.status_code == 503 else None

        answer = running_app.wait_for("a judgement", away)
        assert answer.json()["components"]["postgres"]["status"] == "unhealthy"
        assert running_app.http.get("/health/live").status_code == 200
    finally:
        running_app.stack.restart("postgres")
    running_app.wait_for("readiness", lambda: running_app.http.get("/health/ready").status_code == 200)
