"""The lists of models that the operator's inference services give, and what is said when they give none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.errors import NotOfferedError, ProviderRefusedError, ProviderUnavailableError
from app.security.outbound import OutboundClient, OutboundOptions
from app.services.inference import Inference
from tests.support.providers import EmbeddingServer, Fault, embedding_server


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def inference(server: EmbeddingServer) -> Iterator[Inference]:
    hosts = (f"127.0.0.1:{server.port}",)
    http = OutboundClient(OutboundOptions(allowed_hosts=hosts, max_response_bytes=500))
    yield Inference(http, {"embedding": f"{server.cohere_url}/", "llm": server.cohere_url})
    http.close()


def test_each_service_is_asked_for_its_own_list(inference: Inference, server: EmbeddingServer):
    assert inference.models("embedding") == [{"id": "an-embedder", "name": "an-embedder"}]
    assert inference.models("llm") == [{"id": "a-model", "name": "a-model"}]
    assert [one["path"] for one in server.requests] == ["/api/embedders", "/api/llms"]


def test_a_service_that_is_not_set_up_is_named(inference: Inference):
    with pytest.raises(NotOfferedError, match="LLM_INFERENCE_API_URL is not set"):
        Inference(inference.http, {"embedding": None, "llm": None}).models("llm")


@pytest.mark.parametrize("fault", [Fault("garbage"), Fault("status", status=500)], ids=["garbage", "500"])
def test_an_answer_that_is_no_list_is_refused(inference: Inference, server: EmbeddingServer, fault: Fault):
    server.faults.append(fault)
    with pytest.raises(ProviderRefusedError):
        inference.models("embedding")


def test_a_service_that_is_away_or_says_too_much_is_unavailable(
    inference: Inference, server: EmbeddingServer
):
    server.faults.append(Fault("status", message="x" * 1000))
    for _ in range(2):
        server.faults.append(Fault("close"))
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError):
            inference.models("embedding")
