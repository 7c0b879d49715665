"""Spans reach a collector with their context carried through headers; without an endpoint nothing happens."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.observability import tracing

PARENT = {"TraceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Span]]:
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            raw = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setattr(tracing, "_provider", None)
    assert tracing.configure("test", f"http://127.0.0.1:{server.server_address[1]}")
    yield spans
    tracing.end()
    server.shutdown()
    server.server_close()


def test_a_trace_goes_on_in_the_worker(collected: list[Span]):
    with tracing.span("publish collections", "producer", attributes={"messaging.system": "nats"}):
        headers = tracing.inject()
    assert set(headers) >= {"traceparent"}
    with tracing.span("process collections", "consumer", headers={"Traceparent": headers["traceparent"]}):
        ids = tracing.current_ids()
    tracing.end()
    sent, processed = collected
    assert sent.trace_id == processed.trace_id
    assert processed.parent_span_id == sent.span_id
    assert ids["trace_id"] == sent.trace_id.hex()


def test_a_replay_begins_a_trace_that_links_to_the_old_one(collected: list[Span]):
    with tracing.span("replay", links=[PARENT, {}]):
        pass
    tracing.end()
    (span,) = collected
    assert span.links[0].trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.trace_id != span.links[0].trace_id


def test_each_step_of_endless_work_is_a_trace_of_its_own_that_is_linked_to_the_work(collected: list[Span]):
    with tracing.span("work"):
        work = tracing.current_ids()
        with tracing.Steps("step") as steps:
            for _ in range(2):
                with tracing.span("part"):
                    pass
                steps.next()
        assert tracing.current_ids() == work
    tracing.end()
    found = [span for span in collected if span.name == "step"]
    assert len({span.trace_id.hex() for span in found} - {work["trace_id"]}) == 3
    assert {link.span_id.hex() for span in found for link in span.links} == {work["span_id"]}
    parts = [span for span in collected if span.name == "part"]
    assert [part.parent_span_id for part in parts] == [span.span_id for span in found[:2]]


def test_steps_pass_on_the_context_of_a_process_that_does_not_trace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_provider", None)
    with tracing.span("work", headers=PARENT), tracing.Steps("step"):
        assert tracing.inject()["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_what_holds_no_context_leaves_the_present_one(collected: list[Span]):
    with tracing.span("outer"):
        outer = tracing.current_ids()
        with tracing.span("inner", headers={"request_id": "r"}), tracing.continuing({"request_id": "r"}):
            assert tracing.current_ids()["trace_id"] == outer["trace_id"]
        assert tracing.elsewhere(tracing.inject()) == {}
        assert tracing.elsewhere(PARENT) == tracing.inject()
    tracing.end()


def test_spans_of_a_block_belong_to_the_context_that_it_continues(collected: list[Span]):
    with tracing.continuing(PARENT), tracing.span("work"):
        pass
    with tracing.span("after"):
        pass
    tracing.end()
    inside, after = collected
    assert inside.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert after.trace_id != inside.trace_id


def test_an_error_is_on_its_span(collected: list[Span]):
    with pytest.raises(ValueError), tracing.span("work"):
        raise ValueError("no")
    tracing.end()
    assert collected[0].events[0].name == "exception"


def test_a_collector_that_says_nothing_is_not_waited_for_at_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_provider", None)
    monkeypatch.setattr(tracing, "_END_MILLISECONDS", 100)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert tracing.configure("test", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(2000):  # of which each batch would wait ten seconds
            with tracing.span("work"):
                pass
        ends = threading.Thread(target=tracing.end, daemon=True)
        ends.start()
        ends.join(8)
        assert not ends.is_alive()


@pytest.mark.parametrize("endpoint", [None, ""])
def test_without_an_endpoint_everything_is_a_no_op(monkeypatch: pytest.MonkeyPatch, endpoint: str | None):
    monkeypatch.setattr(tracing, "_provider", None)
    assert not tracing.configure("test", endpoint)
    with tracing.span("work"):
        assert tracing.inject() == {}
        assert tracing.current_ids() == {}
    tracing.end()


def test_a_context_passes_through_a_process_that_does_not_trace(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_provider", None)
    with tracing.span("work", headers=PARENT):
        assert tracing.inject()["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_logs_carry_the_trace(collected: list[Span]):
    with tracing.span("work"):
        record = logging.makeLogRecord({"msg": "m"})
        from app.observability.logging import _extra_fields

        assert _extra_fields(record) == tracing.current_ids()
