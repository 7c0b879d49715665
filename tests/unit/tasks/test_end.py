"""The end of a worker process, which comes by os._exit: nothing that is registered with atexit runs then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.observability import tracing
from tasks.middleware import Readiness
from tests.support.spans import collecting_spans

pytestmark = pytest.mark.unit


def test_a_worker_sends_its_last_spans(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracing, "_provider", None)
    container: Any = SimpleNamespace(close=lambda: None)
    with collecting_spans() as spans:
        assert tracing.configure("test", spans.url)
        with tracing.span("the last run"):
            trace = tracing.current_ids()["trace_id"]
        nothing: Any = None
        Readiness(container, "datasets").after_worker_shutdown(nothing, nothing)
        assert [span.name for _, span in spans.of(trace)] == ["the last run"]
