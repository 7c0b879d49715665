"""What providers reached over HTTP promise beside: faults, retries, secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.errors import (
    DimensionMismatchError,
    InvalidInputError,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from app.pipeline.embedding.cohere import CohereEmbedder
from app.pipeline.embedding.minilm.tokens import count_tokens
from app.pipeline.embedding.openai import OpenAIEmbedder
from app.pipeline.embedding.remote import RemoteEmbedder
from app.pipeline.remote import RetryPolicy
from app.security.outbound import OutboundClient
from tests.contract.embedding.conftest import Case, spec_of
from tests.support.providers import EmbeddingServer, Fault

CLASSES: dict[str, type[RemoteEmbedder]] = {"openai": OpenAIEmbedder, "cohere": CohereEmbedder}
QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.5, timeout_seconds=30)


def quick(case: Case, **changes: Any) -> RemoteEmbedder:
    return CLASSES[case.spec.provider](replace(case.spec, **changes), case.http, QUICK)


def hasty(case: Case, seconds: float) -> RemoteEmbedder:
    """Waits no longer than that for an answer."""
    return CLASSES[case.spec.provider](case.spec, case.http, replace(QUICK, timeout_seconds=seconds))


def faulty(case: Case, *faults: Fault) -> EmbeddingServer:
    assert case.server is not None
    case.server.faults.extend(faults)
    return case.server


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=429, retry_after="0.05"),
        Fault("status", status=503),
        Fault("hang", seconds=2.5),
        Fault("close"),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status}",
)
def test_a_passing_fault_is_retried(remote: Case, fault: Fault):
    server = faulty(remote, fault)
    assert hasty(remote, 2).embed(["a text"], purpose="document").vectors.shape == (1, 16)
    assert len(server.requests) == 2


def test_the_tokens_of_an_answer_are_counted(remote: Case):
    labels = {"provider": remote.spec.provider, "direction": "input"}
    before = REGISTRY.get_sample_value("provider_tokens_total", labels) or 0
    quick(remote).embed(["a text", "another"], purpose="document")
    assert REGISTRY.get_sample_value("provider_tokens_total", labels) == before + 2


def test_a_long_retry_after_is_handed_to_the_job(remote: Case):
    server = faulty(remote, Fault("status", status=429, retry_after="40"))
    with pytest.raises(ProviderUnavailableError, match="429") as error:
        quick(remote).embed(["a text"], purpose="document")
    assert error.value.retry_after_seconds == 40
    assert len(server.requests) == 1


def test_retries_end(remote: Case):
    server = faulty(remote, *[Fault("status", status=500)] * 9)
    with pytest.raises(ProviderUnavailableError, match="the stub was told to fail"):
        quick(remote).embed(["a text"], purpose="document")
    assert len(server.requests) == 3


def test_a_person_who_waits_for_a_query_is_not_kept_for_all_retries(remote: Case):
    server = faulty(remote, *[Fault("status", status=500)] * 9)
    with pytest.raises(ProviderUnavailableError):
        quick(remote).embed(["a text"], purpose="query")
    assert len(server.requests) == 2


def test_a_provider_that_always_hangs_is_given_up(remote: Case):
    faulty(remote, *[Fault("hang", seconds=0.8)] * 3)
    with pytest.raises(ProviderUnavailableError, match=r"did not answer within 0\.5 seconds"):
        hasty(remote, 0.5).embed(["a text"], purpose="document")


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final_and_in_the_providers_words(remote: Case, status: int):
    server = faulty(remote, Fault("status", status=status, message="unknown model: stub"))
    with pytest.raises(ProviderRefusedError, match="unknown model: stub"):
        quick(remote).embed(["a text"], purpose="document")
    assert len(server.requests) == 1


def test_the_key_is_sent_but_never_told(remote: Case):
    server = faulty(remote, Fault("status", status=401, message="bad key sk-secret " + "x" * 5000))
    with pytest.raises(ProviderRefusedError) as error:
        quick(remote).embed(["a text"], purpose="document")
    assert server.requests[0]["headers"]["authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in error.value.message
    assert len(error.value.message) < 500
    assert "sk-secret" not in repr(remote.spec)


def test_a_batch_the_provider_finds_too_large_is_halved(remote: Case):
    assert remote.server is not None
    remote.server.largest_batch = 3
    texts = [f"text number {n}" for n in range(10)]
    embedder = quick(remote, batch_size=10)
    halved = embedder.embed(texts, purpose="document").vectors
    remote.server.largest_batch = 100
    assert (halved == embedder.embed(texts, purpose="document").vectors).all()


def test_a_body_that_is_too_large_is_halved(remote: Case):
    server = faulty(remote, Fault("status", status=413))
    assert len(quick(remote).embed(["one", "two"], purpose="document").vectors) == 2
    assert len(server.requests) == 3


def test_one_text_that_is_too_large_is_refused(remote: Case):
    faulty(remote, Fault("status", status=413))
    with pytest.raises(ProviderRefusedError, match="413"):
        quick(remote).embed(["one"], purpose="document")


def test_an_answer_that_is_no_json_is_not_believed(remote: Case):
    faulty(remote, Fault("garbage"))
    with pytest.raises(ProviderUnavailableError, match="not a list of vectors"):
        quick(remote).embed(["a text"], purpose="document")


def test_missing_vectors_are_noticed(remote: Case):
    faulty(remote, Fault("partial"))
    with pytest.raises(ProviderUnavailableError):
        quick(remote).embed(["one", "two", "three"], purpose="document")


def test_zero_vectors_are_noticed(remote: Case):
    faulty(remote, Fault("zero"))
    with pytest.raises(ProviderUnavailableError, match="zero"):
        quick(remote).embed(["one"], purpose="document")


def test_a_model_that_changes_its_dimension_is_noticed(remote: Case):
    faulty(remote, Fault("dimension"))
    with pytest.raises(DimensionMismatchError, match=r"13 dimensions.*16"):
        quick(remote).embed(["one"], purpose="document")


def test_batches_are_as_large_as_configured(remote: Case):
    assert remote.server is not None
    quick(remote, batch_size=4).embed([f"t{n}" for n in range(10)], purpose="document")
    sizes = [len(r["body"].get("input") or r["body"]["texts"]) for r in remote.server.requests]
    assert sizes == [4, 4, 2]


def test_no_part_of_a_split_text_is_lost_or_over_the_limit(remote: Case):
    assert remote.server is not None
    text = " ".join(f"word{n}" for n in range(500))
    quick(remote, max_input_tokens=100).embed([text], purpose="document")
    parts = [part for r in remote.server.requests for part in r["body"].get("input") or r["body"]["texts"]]
    assert "".join(parts) == text
    assert max(count_tokens(part) for part in parts) <= 80


def test_a_private_address_is_refused_unless_allowed(remote: Case):
    embedder = CLASSES[remote.spec.provider](
        replace(remote.spec, base_url="https://10.0.0.7/v1"), OutboundClient(), QUICK
    )
    with pytest.raises(InvalidInputError, match="private") as refused:
        embedder.embed(["a text"], purpose="document")
    assert refused.value.field == "base_url"


def test_openai_speaks_its_wire_format(server: EmbeddingServer, http: OutboundClient):
    config = {"request_dimensions": True, "query_prefix": "query: "}
    OpenAIEmbedder(replace(spec_of("openai", server), config=config), http).embed(["cats"], purpose="query")
    assert server.requests[0]["path"] == "/v1/embeddings"
    assert server.requests[0]["body"] == {
        "model": "stub",
        "input": ["query: cats"],
        "encoding_format": "float",
        "dimensions": 16,
    }


def test_cohere_speaks_its_wire_format(server: EmbeddingServer, http: OutboundClient):
    embedder = CohereEmbedder(spec_of("cohere", server), http)
    embedder.embed(["cats"], purpose="query")
    embedder.embed(["cats"], purpose="document")
    query, document = server.requests
    assert (query["path"], query["body"]["input_type"]) == ("/v2/embed", "search_query")
    assert document["body"] == {
        "model": "stub",
        "texts": ["cats"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "truncate": "NONE",
    }
