"""Stub providers on loopback: the formats of OpenAI, Cohere and the inference service; they fail on demand.

with embedding_server() as server:
    server.faults.append(Fault("status", status=429, retry_after="1"))
    … server.openai_url, server.cohere_url, server.requests, server.chat
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass(frozen=True)
class Fault:
    """What the next answer does instead of its duty."""

    kind: Literal["status", "hang", "slow", "garbage", "partial", "dimension", "zero", "close"]
    status: int = 500
    message: str = "the stub was told to fail"
    retry_after: str | None = None
    seconds: float = 2.0


@dataclass
class EmbeddingServer:
    """Answers with vectors derived from the words of a text: texts that share words are near each other.

    Questions to a language model get what `chat` makes of the system's and the user's message.
    """

    dimensions: int = 16
    largest_batch: int = 2048
    chat: Callable[[str, str], str] = lambda system, user: "An answer"
    refused_word: str = ""  # a text that holds it is never taken (400)
    denied_words: frozenset[str] = frozenset()  # who asks for a text with one of them is sent away (401)
    faults: deque[Fault] = field(default_factory=deque)  # each is used up by one request
    requests: list[dict[str, Any]] = field(default_factory=list)  # path, headers, body
    slowed: list[dict[str, Any]] = field(default_factory=list)  # bodies that a slow answer is on its way to
    port: int = 0

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def cohere_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def vector(self, text: str) -> list[float]:
        """The vector of a text before normalisation."""
        sums = [0.01] * self.dimensions
        for word in text.lower().split():
            digest = hashlib.sha256(word.encode()).digest()
            for i in range(self.dimensions):
                sums[i] += digest[i % 32] / 127.5 - 1
        return sums


@contextmanager
def embedding_server(**settings: Any) -> Iterator[EmbeddingServer]:
    """A running stub; `settings` are fields of EmbeddingServer."""
    state = EmbeddingServer(**settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(state: EmbeddingServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one class, counted as one
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """The lists of the inference services."""
            state.requests.append({"path": self.path})
            known = {"/api/embedders": "an-embedder", "/api/llms": "a-model"}
            if state.faults:
                self._fail(state.faults.popleft())
            elif self.path in known:
                self._write(200, json.dumps([{"id": known[self.path], "name": known[self.path]}]).encode())
            else:
                self._write(404, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append({"path": self.path, "headers": headers, "body": body})
            if any(word in str(body) for word in state.denied_words):
                self._write(401, _complaint(self.path, "the stub was told to deny this"))
                return
            fault = state.faults.popleft() if state.faults else None
            if fault is not None and fault.kind == "slow":
                state.slowed.append(body)
                time.sleep(fault.seconds)
                state.slowed.remove(body)
                fault = None
            if fault is None or fault.kind in ("partial", "dimension", "zero"):
                self._answer(body, fault)
            else:
                self._fail(fault)

        def _fail(self, fault: Fault) -> None:
            if fault.kind == "hang":
                time.sleep(fault.seconds)
                self.close_connection = True
            elif fault.kind == "close":
                self.close_connection = True
            elif fault.kind == "garbage":
                self._write(200, b"<html>bad gateway</html>")
            else:
                extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                self._write(fault.status, _complaint(self.path, fault.message), extra)

        def _answer(self, body: dict[str, Any], fault: Fault | None) -> None:
            texts = body.get("input") or body.get("texts") or []
            if self.path in ("/v1/chat/completions", "/v2/chat", "/api/chat"):
                text = "" if fault else state.chat(*(message["content"] for message in body["messages"]))
                self._write(200, json.dumps(_chat_envelope(self.path, body, text)).encode())
            elif self.path not in ("/v1/embeddings", "/v2/embed", "/api/embed/batch"):
                self._write(404, _complaint(self.path, "no such path"))
            elif len(texts) > state.largest_batch:
                self._write(400, _complaint(self.path, f"too many inputs: at most {state.largest_batch}"))
            elif state.refused_word and any(state.refused_word in text for text in texts):
                self._write(400, _complaint(self.path, "this is not what we embed"))
            else:
                rows = _spoil([state.vector(text) for text in texts], fault)
                self._write(200, json.dumps(_envelope(self.path, body, rows)).encode())

        def _write(self, status: int, payload: bytes, extra: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(payload)), **(extra or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has in the standard library
            return

    return Handler


def _spoil(rows: list[list[float]], fault: Fault | None) -> list[list[float]]:
    if fault is None:
        return rows
    if fault.kind == "partial":
        return rows[:-1]
    if fault.kind == "dimension":
        return [row[:-3] for row in rows]
    return [[0.0] * len(row) for row in rows]


def _complaint(path: str, message: str) -> bytes:
    error = {"message": message} if path.startswith("/v2") else {"error": {"message": message, "code": None}}
    return json.dumps(error).encode()


def _envelope(path: str, body: dict[str, Any], rows: list[list[float]]) -> dict[str, Any]:
    if path.startswith("/v2"):
        meta = {"billed_units": {"input_tokens": len(rows)}}
        return {"id": "stub", "embeddings": {"float": rows}, "texts": body["texts"], "meta": meta}
    if path.startswith("/api"):
        return {"embeddings": rows, "model": body["model"]}
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    data.reverse()  # the order of the list is not the order of the texts: `index` is
    return {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": len(rows)}}


def _chat_envelope(path: str, body: dict[str, Any], text: str) -> dict[str, Any]:
    if path.startswith("/v2"):
        blocks = [{"type": "thinking", "thinking": "well"}, {"type": "text", "text": text}]
        return {
            "id": "stub",
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": blocks},
            "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 2}},
        }
    if path.startswith("/api"):
        said = {"role": "assistant", "content": text}
        return {"message": said, "model": body["model"], "tokens_generated": 2, "finish_reason": "stop"}
    message = {"role": "assistant", "content": text or None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
