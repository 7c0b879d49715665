"""A stub language model on loopback that streams as OpenAI and Cohere do, reranks, and fails on demand.

with talking_server() as server:
    server.say = lambda messages: "An answer [1]."
    server.faults.append(TalkFault("stall"))
    … server.openai_url, server.cohere_url, server.requests, server.left
"""

from __future__ import annotations

import json
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

_SLICE = 7  # cuts characters, lines and events
_MOST_SECONDS = 20.0


@dataclass(frozen=True)
class TalkFault:
    """What the next answer does instead of its duty.

    break: ends in the middle; stall: says its first words and then nothing until the client leaves; silent:
    says nothing until then; whole: is no stream; complain: an error between two pieces; garbage: no JSON;
    cut: meets its limit.
    """

    kind: Literal["status", "break", "stall", "silent", "complain", "garbage", "cut", "whole"]
    status: int = 500
    message: str = "the stub was told to fail"


@dataclass
class TalkingServer:
    """`left` is set once a client has gone away from an answer that was not over."""

    say: Callable[[list[dict[str, str]]], str] = lambda messages: "An answer [1]."
    relevance: Callable[[str, str], float] = lambda query, text: float(len(text))
    faults: deque[TalkFault] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)  # set with the first of them
    left: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def cohere_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def talking_server() -> Iterator[TalkingServer]:
    """A running stub."""
    state = TalkingServer()
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


def _handler(state: TalkingServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one class, counted as one
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append({"path": self.path, "headers": headers, "body": body})
            state.asked.set()
            fault = state.faults.popleft() if state.faults else None
            if fault and fault.kind == "status":
                error = {"message": fault.message}
                self._whole(fault.status, error if self.path.startswith("/v2") else {"error": error})
            elif self.path.endswith("/rerank"):
                self._whole(200, {"results": _ranking(state, body)})
            elif not (body.get("stream") or self.path.endswith("/stream")) or (
                fault and fault.kind == "whole"
            ):
                self._whole(200, _envelope(self.path, state.say(body["messages"])))
            elif fault and fault.kind == "silent":
                self._wait_until_left()
            else:
                self._stream(state.say(body["messages"]), fault.kind if fault else "")

        def _whole(self, status: int, answer: dict[str, Any]) -> None:
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _stream(self, text: str, fault: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            events = _events(self.path, text, fault)
            sent = "".join(events).encode()
            parts = [sent[start : start + _SLICE] for start in range(0, len(sent), _SLICE)]
            try:
                for part in parts:
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            except OSError:
                self.close_connection = True
                state.left.set()
                return
            if fault == "stall":
                self._wait_until_left()
            elif fault == "break" and self.path.startswith("/api"):
                self.close_connection = True  # where nothing tells the end, only this is one too early
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _wait_until_left(self) -> None:
            self.close_connection = True
            if select.select([self.connection], [], [], _MOST_SECONDS)[0]:
                state.left.set()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has in the standard library
            return

    return Handler


def _envelope(path: str, text: str) -> dict[str, Any]:
    if path.startswith("/v2"):
        return {"message": {"content": [{"type": "text", "text": text}]}}
    if path.startswith("/api"):
        return {"message": {"role": "assistant", "content": text}}
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def _events(path: str, text: str, fault: str) -> list[str]:
    middle = len(text) // 2
    pieces = [text[:middle]] if fault in ("break", "stall") else [text[:middle], text[middle:]]
    events = [_piece(path, piece) for piece in pieces if piece]
    if fault == "complain":
        return [events[0], _data({"error": {"message": "the stub fell over"}})]
    if fault == "garbage":
        return [events[0], "data: <html>\n\n"]
    if fault in ("break", "stall"):
        return events
    return [": comment\n\n", *events, _end(path, was_cut=fault == "cut")]


def _piece(path: str, text: str) -> str:
    if path.startswith("/v2"):
        delta = {"message": {"content": {"type": "text", "text": text}}}
        return "event: content-delta\n" + _data({"type": "content-delta", "index": 0, "delta": delta})
    if path.startswith("/api"):
        return _data({"content": text})
    return _data({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


def _end(path: str, *, was_cut: bool) -> str:
    if path.startswith("/api"):
        return ""  # its answers just end
    if path.startswith("/v2"):
        reason = "MAX_TOKENS" if was_cut else "COMPLETE"
        tokens = {"input_tokens": 4, "output_tokens": 2}
        return _data({"type": "message-end", "delta": {"finish_reason": reason, "usage": {"tokens": tokens}}})
    choice = {"index": 0, "delta": {}, "finish_reason": "length" if was_cut else "stop"}
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    return _data({"choices": [choice], "usage": usage}) + "data: [DONE]\n\n"


def _data(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _ranking(state: TalkingServer, body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"index": index, "relevance_score": state.relevance(body["query"], text)}
        for index, text in enumerate(body["documents"])
    ]
