"""Where in a trace a message was sent: carried with it, by its dead letter, too, to what replaces that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from app.observability import tracing

_LINEAGE = "replay_of"


class MessageTrace(Middleware):
    """Notes the context of the sender on every message, unless an earlier sender has.

    A replayed message keeps that of the first, and says beside it who replayed it: a span of its own, linked
    to the first, whether somebody replays one letter or a bulk job thousands.
    """

    def before_enqueue(
        self, _broker: dramatiq.Broker, message: dramatiq.Message[Any], _delay: object
    ) -> None:
        """Called by the broker, in the thread that sends."""
        lineage: Any = message.options.get(_LINEAGE)
        is_replay = isinstance(lineage, dict) and "traceparent" not in lineage
        here = _replayed(message) if is_replay else tracing.inject()
        if not here:
            return
        if "traceparent" not in message.options:
            message.options.update(here)
        if is_replay:
            lineage["traceparent"] = here["traceparent"]


def made(message: dramatiq.Message[Any] | None) -> Mapping[str, str]:
    """The context in which a message was first sent; empty where it has none."""
    return _context(message.options) if message is not None else {}


def causes(message: dramatiq.Message[Any] | None) -> Sequence[Mapping[str, str]]:
    """The contexts that a delivery of it is to be linked to: of who sent it, and of who replayed it."""
    if message is None:
        return ()
    lineage = message.options.get(_LINEAGE)
    return (_context(message.options), _context(lineage if isinstance(lineage, dict) else {}))


def _replayed(message: dramatiq.Message[Any]) -> dict[str, str]:
    """The context of the replay. Its span is over at once: letters are sent several at a time."""
    told = {"messaging.system": "nats", "messaging.destination.name": message.queue_name}
    with tracing.span(f"replay {message.queue_name}", "producer", attributes=told, links=[made(message)]):
        return tracing.inject()


def _context(options: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: options[name] for name in ("traceparent", "tracestate") if isinstance(options.get(name), str)
    }
