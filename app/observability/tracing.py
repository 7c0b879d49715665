"""OpenTelemetry spans, and their context as headers for messages; a no-op without an endpoint."""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span

Kind = Literal["internal", "server", "client", "producer", "consumer"]

_PROPAGATOR = TraceContextTextMapPropagator()
_NAME = "semantic-explorer"
_END_MILLISECONDS = 3000  # of the five seconds that a pod has left after its drain
# Searched for in the whole URL: somebody may look for "metrics", or a host be named so.
_PROBES = r"^\w+://[^/?]+/(health|health/live|health/ready|metrics)(\?|$)"
_provider: TracerProvider | None = None


def configure(service: str, endpoint: str | None, sample_ratio: float = 1.0) -> bool:
    """Export spans to `{endpoint}/v1/traces` (OTLP over HTTP); without an endpoint do nothing, return False.

    A trace that somebody else began is followed as they decided; `sample_ratio` is for those begun here.
    """
    global _provider  # noqa: PLW0603 - one provider per process, as OpenTelemetry has it
    if not endpoint or _provider is not None:
        return _provider is not None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    _provider = TracerProvider(
        resource=Resource.create({"service.name": f"{_NAME}-{service}"}),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        shutdown_on_exit=False,
    )
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(endpoint=url if url.endswith("/v1/traces") else f"{url}/v1/traces")
    _provider.add_span_processor(_processor(exporter))
    atexit.register(end)
    return True


def enabled() -> bool:
    """Whether spans go anywhere."""
    return _provider is not None


def end() -> None:
    """Send what is waiting, for three seconds at most; spans that end later are dropped.

    Whoever ends by os._exit, as the children of multiprocessing do, must call it; for others it is called.
    """
    if _provider is not None:
        _provider.shutdown()


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    *,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    headers: Mapping[str, str] | None = None,
    links: Iterable[Mapping[str, str]] = (),
    apart: bool = False,
) -> Iterator[Span]:
    """A span around a block; an exception is recorded on it and goes on.

    `headers` is the context that this work continues, the present one where they hold none; `links` are
    those that it only refers to (who sent a message, what was replayed); empty ones are left out. `apart`: it
    begins a trace of its own, whatever surrounds it.
    """
    tracer = trace.get_tracer(_NAME, tracer_provider=_provider)
    with tracer.start_as_current_span(
        name,
        context=Context() if apart and enabled() else _context(headers),
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
        links=[link for each in links for link in _links(each)],
    ) as current:
        yield current


class Steps:
    """Spans one after the other, each the first of a trace of its own that is linked to the present span.

    For work without end: one trace of all of it would be larger than anybody can look at, or a server keep.
    """

    def __init__(self, name: str) -> None:
        self._name, self._cause, self._present = name, inject(), ExitStack()

    def __enter__(self) -> Self:
        """Begin the first."""
        self.next()
        return self

    def __exit__(self, *_: object) -> None:
        """End the last."""
        self._present.close()

    def next(self) -> None:
        """End this one, and begin another."""
        self._present.close()
        self._present.enter_context(span(self._name, apart=True, links=[self._cause]))


def inject() -> dict[str, str]:
    """The present context as `traceparent` and `tracestate`; empty outside a span."""
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers)
    return headers


def extract(headers: Mapping[str, str]) -> Context:
    """The context in these headers, whose names may be in any case; an empty one when there is none."""
    return _PROPAGATOR.extract({name.lower(): value for name, value in headers.items()})


def elsewhere(headers: Mapping[str, str]) -> dict[str, str]:
    """The present context as `inject` has it, where it belongs to another trace than these headers."""
    here = inject()
    same = _trace_id(here) == _trace_id(headers)
    return {} if same else here


@contextmanager
def continuing(headers: Mapping[str, str]) -> Iterator[None]:
    """Spans begun in the block belong to the context in these headers, if they hold one."""
    found = _context(headers)
    token = attach(found) if found is not None else None
    try:
        yield
    finally:
        if token is not None:
            detach(token)


def current_ids() -> dict[str, str]:
    """`trace_id` and `span_id` in hex for the logs; empty outside a span."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def instrument_flask(app: Any) -> None:
    """A server span per request, health and metrics endpoints left out; nothing when tracing is off."""
    if _provider is None:
        return
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    instrumentor: Any = FlaskInstrumentor()
    instrumentor.instrument_app(
        app, tracer_provider=_provider, excluded_urls=_PROBES, response_hook=_hide_query
    )


def _hide_query(span: Any, _status: str, _headers: Any) -> None:
    """What follows the question mark is what somebody looks for, or a secret in the wrong place.

    Called with the response: before it the library would write over what is hidden.
    """
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    for name in ("http.target", "http.url", "url.full"):
        if name in attributes:
            span.set_attribute(name, str(attributes[name]).partition("?")[0])
    if "url.query" in attributes:
        span.set_attribute("url.query", "")


def instrument_engine(engine: Any) -> None:
    """A client span per SQL statement of this SQLAlchemy engine; nothing when tracing is off."""
    if _provider is None:
        return
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=_provider)


def _processor(exporter: OTLPSpanExporter) -> SpanProcessor:
    """Sends spans in batches, and at its end the rest: the library waits 30 s for a silent collector."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class Bounded(BatchSpanProcessor):
        def shutdown(self) -> None:
            self._batch_processor.shutdown(timeout_millis=_END_MILLISECONDS)

    return Bounded(exporter)


def _context(headers: Mapping[str, str] | None) -> Context | None:
    """What these headers continue; None where they hold no context: then it is the present one."""
    return extract(headers) if headers and any(name.lower() == "traceparent" for name in headers) else None


def _links(headers: Mapping[str, str]) -> list[Link]:
    context = trace.get_current_span(extract(headers)).get_span_context()
    return [Link(context)] if context.is_valid else []


def _trace_id(headers: Mapping[str, str]) -> int:
    return trace.get_current_span(extract(headers)).get_span_context().trace_id
