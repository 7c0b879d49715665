"""Spans of calls to the servers behind us say which server, and what was asked of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, text

from app.observability import calls, tracing

pytestmark = pytest.mark.unit


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(tracing, "_provider", provider)
    _forget_engines()
    yield kept
    _forget_engines()
    provider.shutdown()


def _forget_engines() -> None:
    """One call instruments for the whole process, and another test may have made it."""
    instrumentor = SQLAlchemyInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def attributes(exporter: InMemorySpanExporter, name: str) -> dict[str, object]:
    (span,) = [one for one in exporter.get_finished_spans() if one.name.startswith(name)]
    return dict(span.attributes or {})


def test_a_statement_says_its_system_and_its_text(exporter: InMemorySpanExporter):
    engine = create_engine("sqlite://")
    tracing.instrument_engine(engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1 + 1"))
    engine.dispose()
    told = attributes(exporter, "SELECT")
    assert told["db.system"] == "sqlite"
    assert told["db.statement"] == "SELECT 1 + 1"


@pytest.mark.parametrize(
    ("system", "name", "attribute"),
    [
        ("s3", "PutObject", "rpc.method"),
        ("qdrant", "upsert", "db.operation.name"),
        ("provider", "openai", "peer.service"),
    ],
)
def test_a_call_says_its_system_and_what_was_asked(
    exporter: InMemorySpanExporter, system: calls.System, name: str, attribute: str
):
    with calls.call(system, name):
        pass
    told = attributes(exporter, f"{system} {name}")
    assert told["peer.system"] == system
    assert told[attribute] == name
