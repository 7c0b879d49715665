"""A message says where it was first sent, and a replayed one who replayed it, however often it is sent."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest

from app.jobs.message_trace import MessageTrace, causes, made
from app.observability import tracing

FIRST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECOND = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203332-01"
THIRD = "00-2cf7651916cd43dd8448eb211c80319c-d7ad6b7169203333-01"


def message(**options: Any) -> dramatiq.Message[Any]:
    return dramatiq.Message("q", "a", (), {}, options)


def sent(under: str | None, **options: Any) -> dramatiq.Message[Any]:
    one = message(**options)
    with tracing.continuing({"traceparent": under} if under else {}):
        MessageTrace().before_enqueue(None, one, None)  # type: ignore[arg-type]
    return one


def test_the_first_sender_is_kept():
    first = sent(FIRST)
    assert made(first) == {"traceparent": FIRST}
    assert made(sent(SECOND, **first.options)) == {"traceparent": FIRST}


def test_whoever_replays_is_named_beside_and_a_retry_of_that_changes_nothing():
    replayed = sent(SECOND, traceparent=FIRST, replay_of={"dead_letter": 1})
    assert [each.get("traceparent") for each in causes(replayed)] == [FIRST, SECOND]
    again = sent(THIRD, **replayed.options)
    assert [each.get("traceparent") for each in causes(again)] == [FIRST, SECOND]


def test_nothing_is_noted_where_nobody_traces():
    assert sent(None, replay_of={"dead_letter": 1}).options == {"replay_of": {"dead_letter": 1}}


@pytest.mark.parametrize(
    "options", [{}, {"traceparent": 7, "replay_of": "x"}, {"replay_of": {"traceparent": []}}]
)
def test_what_strangers_write_there_is_no_context(options: dict[str, Any]):
    assert made(message(**options)) == {}
    assert causes(message(**options)) == ({}, {})
    assert (made(None), causes(None)) == ({}, ())
