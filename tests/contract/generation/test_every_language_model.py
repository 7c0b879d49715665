"""What every provider of language models promises; one line per provider in `URLS`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.errors import InvalidInputError, ProviderRefusedError, ProviderUnavailableError
from app.pipeline.generation.base import LanguageModelSpec
from app.pipeline.generation.registry import PROVIDERS, build
from app.pipeline.providers import Service, load
from app.pipeline.remote import RetryPolicy
from app.security.outbound import OutboundClient, OutboundOptions
from tests.support.providers import EmbeddingServer, Fault, embedding_server

URLS = {"openai": "openai_url", "cohere": "cohere_url", "internal": "cohere_url"}
QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.5, timeout_seconds=30)
HASTY = replace(QUICK, timeout_seconds=2)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def http() -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
    yield client
    client.close()


@pytest.fixture(params=sorted(PROVIDERS))
def spec(request: pytest.FixtureRequest, server: EmbeddingServer) -> LanguageModelSpec:
    return spec_of(request.param, server)


def spec_of(provider: str, server: EmbeddingServer, **config: Any) -> LanguageModelSpec:
    return LanguageModelSpec(provider, "stub", getattr(server, URLS[provider]), "sk-secret", config)


def ask(
    spec: LanguageModelSpec, http: OutboundClient, max_tokens: int = 60, policy: RetryPolicy = QUICK
) -> str:
    model = load(PROVIDERS[spec.provider].address)(spec, http, policy)
    return str(model.complete("be brief", "say hello", max_tokens=max_tokens))


def test_the_instruction_and_the_question_go_in_and_the_answer_comes_out(spec, server, http):
    server.chat = lambda system, user: f"  {system}: {user}\n"
    service = Service(server.cohere_url, http)
    assert (
        build(spec, http, service=service).complete("be brief", "say hello", max_tokens=60)
        == "be brief: say hello"
    )
    (request,) = server.requests
    assert request["body"]["model"] == "stub"
    assert request["body"]["max_tokens"] == 60
    assert "temperature" not in request["body"]
    assert request["headers"]["authorization"] == "Bearer sk-secret"


def test_the_tokens_of_an_answer_are_counted(spec, server, http):
    def counted(direction: str) -> float:
        return REGISTRY.get_sample_value(
            "provider_tokens_total", {"provider": spec.provider, "direction": direction}
        ) or 0.0  # fmt: skip

    before = counted("input"), counted("output")
    ask(spec, http)
    taken = 0 if spec.provider == "internal" else 3  # it tells only what it has given
    assert (counted("input"), counted("output")) == (before[0] + taken, before[1] + 2)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_configuration_has_the_last_word(provider, server, http):
    ask(spec_of(provider, server, temperature=0.5, max_tokens=900), http)
    assert (server.requests[0]["body"]["temperature"], server.requests[0]["body"]["max_tokens"]) == (0.5, 900)


def test_reasoning_models_get_their_limit_by_its_newer_name(server, http):
    ask(spec_of("openai", server, max_completion_tokens=True), http)
    body = server.requests[0]["body"]
    assert body["max_completion_tokens"] == 60
    assert "max_tokens" not in body


def test_an_address_that_is_complete_is_left_as_it_is(server, http):
    for provider, path in (("openai", "/chat/completions"), ("cohere", "/v2/chat")):
        whole = getattr(server, URLS[provider]) + path
        ask(LanguageModelSpec(provider, "stub", whole), http)
        assert server.requests[-1]["path"].count(path) == 1
        assert "authorization" not in server.requests[-1]["headers"]


def test_thoughts_are_no_part_of_the_answer(spec, server, http):
    server.chat = lambda system, user: "<think>\nhm, <b>hello</b>?\n</think>\n\nHello"
    assert ask(spec, http) == "Hello"


@pytest.mark.parametrize("answer", ["", "  \n", "<think>and then the limit came"])
def test_an_empty_answer_is_an_error(spec, server, http, answer):
    server.chat = lambda system, user: answer
    with pytest.raises(ProviderUnavailableError, match="answered nothing"):
        ask(spec, http)


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
def test_a_passing_fault_is_retried(spec, server, http, fault):
    server.faults.append(fault)
    assert ask(spec, http, policy=HASTY) == "An answer"
    assert len(server.requests) == 2


def test_retries_end(spec, server, http):
    server.faults.extend([Fault("status", status=500)] * 9)
    with pytest.raises(ProviderUnavailableError, match="the stub was told to fail"):
        ask(spec, http)
    assert len(server.requests) == 3


def test_a_long_retry_after_is_not_waited_for(spec, server, http):
    server.faults.append(Fault("status", status=429, retry_after="40"))
    with pytest.raises(ProviderUnavailableError, match="429"):
        ask(spec, http)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_final_in_the_providers_words_and_without_the_key(spec, server, http, status):
    server.faults.append(Fault("status", status=status, message="bad key sk-secret " + "x" * 5000))
    with pytest.raises(ProviderRefusedError, match=r"bad key \[key\]") as error:
        ask(spec, http)
    assert len(server.requests) == 1
    assert "sk-secret" not in error.value.message
    assert len(error.value.message) < 500
    assert "sk-secret" not in repr(spec)


def test_an_answer_that_is_no_json_is_not_believed(spec, server, http):
    server.faults.append(Fault("garbage"))
    with pytest.raises(ProviderUnavailableError, match="not a chat answer"):
        ask(spec, http)


def test_an_address_inside_the_house_is_not_called(spec, server):
    with pytest.raises(InvalidInputError):
        ask(spec, OutboundClient())
    assert server.requests == []


def test_the_operators_service_is_asked_at_its_own_path_and_by_its_own_client(server, http):
    # What users name may not be private; what the operator named may.
    model = build(
        LanguageModelSpec("internal", "m"), OutboundClient(), service=Service(server.cohere_url, http)
    )
    assert model.complete("be brief", "say hello", max_tokens=60) == "An answer"
    (request,) = server.requests
    assert request["path"] == "/api/chat"
    assert "authorization" not in request["headers"]


def test_without_a_service_the_setting_is_named():
    with pytest.raises(InvalidInputError, match="LLM_INFERENCE_API_URL is not set") as refused:
        build(LanguageModelSpec("internal", "m"), OutboundClient())
    assert refused.value.field == "provider"


@pytest.mark.parametrize("asked", ["9" * 400, "99999999", "Mon, 01 Jan 9999 00:00:00 GMT"])
def test_no_provider_puts_work_off_for_more_than_a_day(spec, server, http, asked):
    server.faults.append(Fault("status", status=429, retry_after=asked))
    with pytest.raises(ProviderUnavailableError) as busy:
        ask(spec, http)
    assert busy.value.retry_after_seconds == 24 * 3600


def test_a_date_that_no_calendar_has_is_no_date(spec, server, http):
    server.faults.append(Fault("status", status=503, retry_after=f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT"))
    assert ask(spec, http) == "An answer"
