"""A collector of traces that keeps what it is sent, and answers for nothing else."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Spans:
    """Where spans go (OTLP over HTTP), and everything that came, as bytes."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def of(self, trace_id: str) -> list[tuple[str, Span]]:
        """The spans of a trace that have come so far, each with the service that sent it."""
        return [(service, span) for service, span in self._come() if span.trace_id.hex() == trace_id]

    def all(self) -> list[Span]:
        """Every span that has come so far."""
        return [span for _, span in self._come()]

    def _come(self) -> Iterator[tuple[str, Span]]:
        for body in tuple(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    yield from ((named["service.name"], span) for span in scope.spans)


@contextmanager
def collecting_spans() -> Iterator[Spans]:
    """A running collector on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            spans.bodies.append(
                gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    spans = Spans(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield spans
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
