"""The operator's inference service as an embedder: its format, its patience, and whose address it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import InvalidInputError
from app.pipeline.embedding.base import EmbedderSpec
from app.pipeline.embedding.registry import build
from app.pipeline.providers import Service
from app.security.outbound import OutboundClient
from tests.support.providers import EmbeddingServer, Fault

SPEC = EmbedderSpec("internal", "a-model", 16, batch_size=128, config={"query_prefix": "query: "})


def test_batches_go_to_the_services_own_path_in_its_format(
    server: EmbeddingServer, http: OutboundClient, tmp_path: Path
):
    embedder = build(SPEC, http, cache_dir=tmp_path, service=Service(f"{server.cohere_url}/", http))
    vectors = embedder.embed([f"text {n}" for n in range(130)], purpose="document").vectors
    embedder.embed(["what?"], purpose="query")
    assert vectors.shape == (130, 16)
    assert [one["path"] for one in server.requests] == ["/api/embed/batch"] * 3
    assert [len(one["body"]["texts"]) for one in server.requests] == [128, 2, 1]
    assert server.requests[2]["body"] == {"model": "a-model", "texts": ["query: what?"]}
    assert "authorization" not in server.requests[0]["headers"]


def test_a_full_queue_is_waited_for(server: EmbeddingServer, http: OutboundClient, tmp_path: Path):
    server.faults.append(Fault("status", status=503, retry_after="0.05"))
    embedder = build(SPEC, http, cache_dir=tmp_path, service=Service(server.cohere_url, http))
    assert embedder.embed(["a text"], purpose="document").vectors.shape == (1, 16)
    assert len(server.requests) == 2


def test_only_the_services_own_client_is_asked(server: EmbeddingServer, http: OutboundClient, tmp_path: Path):
    # What users name may not be private; what the operator named may.
    embedder = build(SPEC, OutboundClient(), cache_dir=tmp_path, service=Service(server.cohere_url, http))
    assert embedder.embed(["a text"], purpose="document").vectors.shape == (1, 16)


def test_without_a_service_the_setting_is_named(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="EMBEDDING_INFERENCE_API_URL is not set") as refused:
        build(SPEC, OutboundClient(), cache_dir=tmp_path)
    assert refused.value.field == "provider"
