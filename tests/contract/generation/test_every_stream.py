"""What every provider of language models promises of an answer that is streamed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.errors import ProviderRefusedError, ProviderUnavailableError
from app.pipeline.generation.base import AnswerOptions, LanguageModelSpec, Turn
from app.pipeline.generation.registry import PROVIDERS
from app.pipeline.providers import load
from app.pipeline.remote import RetryPolicy
from app.security.outbound import OutboundClient, OutboundOptions
from tests.support.talking import TalkFault, TalkingServer, talking_server

URLS = {"openai": "openai_url", "cohere": "cohere_url", "internal": "cohere_url"}
QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.5)
TURNS = [
    Turn("system", "be brief"),
    Turn("user", "hello"),
    Turn("assistant", "hi"),
    Turn("user", "and now?"),
]


@pytest.fixture(scope="module")
def running() -> Iterator[TalkingServer]:
    with talking_server() as server:
        yield server


@pytest.fixture
def server(running: TalkingServer) -> TalkingServer:
    fresh = TalkingServer()
    running.say, running.faults, running.requests = fresh.say, fresh.faults, fresh.requests
    running.asked, running.left = fresh.asked, fresh.left
    return running


@pytest.fixture(scope="module")
def http() -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
    yield client
    client.close()


@pytest.fixture(params=sorted(PROVIDERS))
def model(request: pytest.FixtureRequest, server: TalkingServer, http: OutboundClient) -> Any:
    spec = LanguageModelSpec(request.param, "stub", getattr(server, URLS[request.param]), "sk-secret")
    return load(PROVIDERS[request.param].address)(spec, http, QUICK)


def ask(model: Any, seconds: float = 20.0, stopped: threading.Event | None = None) -> tuple[list[str], bool]:
    options = AnswerOptions(max_tokens=60, temperature=0.3, timeout_seconds=seconds)
    stream = model.stream(TURNS, options, stopped=stopped or threading.Event())
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def test_the_whole_conversation_goes_in_and_the_pieces_come_out(model: Any, server: TalkingServer):
    server.say = lambda messages: "Größe: 12 µm → 「はい」 🐅."
    pieces, was_cut = ask(model)
    assert ("".join(pieces), was_cut) == ("Größe: 12 µm → 「はい」 🐅.", False)
    assert len(pieces) > 1
    (request,) = server.requests
    assert [message["role"] for message in request["body"]["messages"]] == [turn.role for turn in TURNS]
    assert request["body"]["stream"] is True
    assert (request["body"]["max_tokens"], request["body"]["temperature"]) == (60, 0.3)
    assert request["headers"]["authorization"] == "Bearer sk-secret"


def test_thoughts_are_no_part_of_it_and_a_cut_is_told(model: Any, server: TalkingServer):
    server.say = lambda messages: "<think>\nhm, 1 < 2?\n</think>\n\nYes <b>."
    server.faults.append(TalkFault("cut"))
    pieces, was_cut = ask(model)
    assert ("".join(pieces), was_cut) == ("Yes <b>.", model.tells_its_end)


def test_a_streamed_answer_is_counted_with_its_tokens(
    request: pytest.FixtureRequest, model: Any, server: TalkingServer
):
    provider = request.node.callspec.params["model"]

    def counted() -> list[float]:
        names = [
            ("provider_request_duration_seconds_count", {"status": "success"}),
            ("provider_tokens_total", {"direction": "input"}),
            ("provider_tokens_total", {"direction": "output"}),
        ]
        labelled = [(name, {"provider": provider, **labels}) for name, labels in names]
        return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in labelled]

    before = counted()
    ask(model)
    tokens = [4, 2] if model.tells_its_end else [0, 0]
    assert [after - earlier for after, earlier in zip(counted(), before, strict=True)] == [1, *tokens]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("break", "broke off"), ("complain", "the stub fell over"), ("garbage", "no part of an answer")],
)
def test_half_an_answer_is_an_error(model: Any, server: TalkingServer, kind: Any, words: str):
    if kind == "break" and not model.tells_its_end:
        words = "gave no usable answer"
    server.faults.append(TalkFault(kind))
    with pytest.raises(ProviderUnavailableError, match=words):
        ask(model)
    assert len(server.requests) == 1


def test_a_server_that_does_not_stream_answers_at_once(model: Any, server: TalkingServer):
    server.faults.append(TalkFault("whole"))
    assert ask(model) == (["An answer [1]."], False)


def test_an_empty_answer_is_an_error(model: Any, server: TalkingServer):
    server.say = lambda messages: "<think>and then the limit came"
    with pytest.raises(ProviderUnavailableError, match="answered nothing"):
        ask(model)


def test_what_fails_before_the_first_word_is_tried_again_and_a_refusal_is_not(
    model: Any, server: TalkingServer
):
    server.faults.append(TalkFault("status", status=503))
    assert "".join(ask(model)[0]) == "An answer [1]."
    server.faults.append(TalkFault("status", status=401, message="bad key sk-secret"))
    with pytest.raises(ProviderRefusedError, match=r"bad key \[key\]"):
        ask(model)
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", ["stall", "silent"])
def test_a_call_that_is_stopped_ends_at_the_provider_too(model: Any, server: TalkingServer, kind: Any):
    server.faults.append(TalkFault(kind))
    stopped = threading.Event()

    def stop_when_asked() -> None:
        if server.asked.wait(30):
            stopped.set()

    stopper = threading.Thread(target=stop_when_asked)
    stopper.start()
    with pytest.raises(ProviderUnavailableError, match="stopped"):
        ask(model, stopped=stopped)
    stopper.join()
    assert server.left.wait(30)


def test_an_answer_that_does_not_end_in_time_is_given_up(model: Any, server: TalkingServer):
    server.faults.append(TalkFault("stall"))
    with pytest.raises(ProviderUnavailableError, match="within 1 seconds"):
        ask(model, seconds=1.0)
    assert server.left.wait(30)
