"""Whatever a provider answers, it is a failure of the provider, and never of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.errors import ProviderRefusedError, ProviderUnavailableError
from app.pipeline.embedding.base import EmbedderSpec
from app.pipeline.embedding.openai import OpenAIEmbedder
from app.pipeline.generation.base import AnswerOptions, LanguageModelSpec, Turn
from app.pipeline.generation.openai import OpenAIModel
from app.pipeline.remote import RetryPolicy
from app.pipeline.reranking import Reranker
from app.security.outbound import OutboundClient, OutboundOptions

ONCE = RetryPolicy(attempts=1)
DEEP = "[" * 100_000
RUBBISH = {
    "depths": DEEP,
    "depths in an error": f'{{"error": {DEEP}',
    "another thing": '[1, "two", null]',
    "null": "null",
    "an index without end": '{"data": [{"index": 1e999, "embedding": [1]}], '
    '"results": [{"index": 1e999, "relevance_score": 1}], "choices": [{"index": 1e999}]}',
    "a number of 400 digits": f'{{"data": [{{"index": 0, "embedding": [{"9" * 400}]}}], '
    f'"results": [{{"index": 0, "relevance_score": {"9" * 400}}}], "choices": {"9" * 400}}}',
    "texts for numbers": '{"data": [{"index": 0, "embedding": ["x"]}], "results": ["x"], "choices": ["x"]}',
}


@contextmanager
def saying(status: int, body: str, kind: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def embed(url: str, http: OutboundClient) -> None:
    OpenAIEmbedder(EmbedderSpec("openai", "m", 1, url), http, ONCE).embed(["a text"], purpose="query")


def complete(url: str, http: OutboundClient) -> None:
    OpenAIModel(LanguageModelSpec("openai", "m", url), http, ONCE).complete("s", "u", max_tokens=9)


def stream(url: str, http: OutboundClient) -> None:
    model = OpenAIModel(LanguageModelSpec("openai", "m", url), http, ONCE)
    list(model.stream([Turn("user", "u")], AnswerOptions(9), stopped=threading.Event()))


def rerank(url: str, http: OutboundClient) -> None:
    Reranker(url, "m", None, http, ONCE).rank("q", ["a text"])


@pytest.fixture
def http() -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
    yield client
    client.close()


@pytest.mark.parametrize("call", [embed, complete, stream, rerank], ids=lambda call: call.__name__)
@pytest.mark.parametrize("status", [200, 400, 503])
def test_rubbish_is_a_failure_of_the_provider(
    call: Callable[[str, OutboundClient], None], status: int, http: OutboundClient
):
    for name, body in RUBBISH.items():
        text = f"data: {body}\n\n" if call is stream else body
        kind = "text/event-stream" if call is stream else "application/json"
        with (
            saying(status, text, kind) as url,
            pytest.raises((ProviderUnavailableError, ProviderRefusedError)) as told,
        ):
            call(url, http)
        assert len(told.value.message) < 1000, name
