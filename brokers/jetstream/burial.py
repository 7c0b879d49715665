"""Messages given up: how they are written down, and read again.

A dead letter keeps the original payload as its body and its history in headers, so a list costs
headers only. It is stored and confirmed before the original is ended. Its id is its sequence.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from brokers.jetstream import dead_records
from brokers.jetstream.browse import Stored
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import MessageTooLargeError
from brokers.jetstream.message import DeadReason, Delivery, JetStreamMessage, worker_name
from brokers.jetstream.topology import dead_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_TRACE_CHARACTERS, _MESSAGE_CHARACTERS = 8000, 1000


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """One given-up message. `attempts` are dicts with attempt, worker, started_at, ended_at, error."""

    id: int
    queue: str
    reason: str
    actor: str | None
    message_id: str | None
    error_class: str | None
    error_message: str
    trace: str
    attempts: list[dict[str, Any]]
    origin_stream: str
    origin_sequence: int
    dead_at: datetime
    worker: str
    size_bytes: int
    traceparent: str | None
    replays: int = 0  # how often the message and those that it succeeds were replayed before
    truncated_bytes: int = 0
    expires_at: datetime | None = None  # when the server removes it; None: never
    payload: bytes | None = None  # only from `get`


def dead_headers(
    delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: BaseException | None
) -> dict[str, str]:
    """The history of a message as headers; free text is JSON, which has no line breaks."""
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    message_id = message.message_id if message is not None else ""
    headers = {
        "Nats-Msg-Id": f"dead:{delivery.stored_id}:{message_id}",
        "Dead-Reason": str(reason),
        "Dead-Error-Class": _class_name(error),
        "Dead-Error-Message": json.dumps(str(error or "")[:_MESSAGE_CHARACTERS]),
        "Dead-Trace": json.dumps(trace[-_TRACE_CHARACTERS:]),
        "Dead-Attempts": json.dumps(message.options.get("attempts") or [] if message is not None else []),
        "Dead-Stream": delivery.spec.stream,
        "Dead-Sequence": str(delivery.sequence),
        "Dead-Queue": delivery.spec.name,
        "Dead-At": datetime.now(UTC).isoformat(),
        "Dead-Worker": worker_name(),
        "Dead-Size": str(len(delivery.data)),
    }
    if message is not None:
        headers |= {"Dead-Actor": json.dumps(message.actor_name), "Dead-Message-Id": json.dumps(message_id)}
        headers["Dead-Replays"] = str(replays_of(message.options))
    kept = {
        name: delivery.headers[name] for name in ("traceparent", "tracestate") if name in delivery.headers
    }
    return headers | kept


def replays_of(options: dict[str, Any]) -> int:
    """How many replays lie between a message with these options and the first one of its line."""
    lineage = options.get("replay_of")
    if not isinstance(lineage, dict):
        return 0
    depth = lineage.get("depth")
    # A replay from before depths were counted is one at least.
    return depth if isinstance(depth, int) and not isinstance(depth, bool) and depth > 0 else 1


def _class_name(error: BaseException | None) -> str:
    if error is None:
        return ""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


async def store(session: Session, delivery: Delivery, headers: dict[str, str]) -> int:
    """Write a dead letter and open its record; both are confirmed when this returns the letter's id."""
    sequence = await _store(session, delivery, headers)
    stored = Stored(sequence, dead_subject(session.options, delivery.spec.name), headers, datetime.now(UTC))
    await dead_records.begin(session, read_letter(stored, 0))
    return sequence


async def _store(session: Session, delivery: Delivery, headers: dict[str, str]) -> int:
    subject = dead_subject(session.options, delivery.spec.name)
    try:
        return await session.publish(subject, delivery.data, headers)
    except MessageTooLargeError:
        client = await session.client()
        room = min(session.options.max_message_bytes, client.max_payload) // 2
        headers = headers | {"Dead-Truncated": str(len(delivery.data) - room)}
        return await session.publish(subject, delivery.data[:room], headers)


def read_letter(stored: Stored, max_age_seconds: float) -> DeadLetter:
    """A stored dead letter; nonsense in its headers becomes what the fields say for "unknown"."""
    headers, attempts = stored.headers, stored.json("Dead-Attempts")
    return DeadLetter(
        id=stored.sequence,
        queue=headers.get("Dead-Queue") or stored.subject.rsplit(".", 1)[-1],
        reason=headers.get("Dead-Reason", "unknown"),
        actor=stored.text("Dead-Actor"),
        message_id=stored.text("Dead-Message-Id"),
        error_class=headers.get("Dead-Error-Class") or None,
        error_message=stored.text("Dead-Error-Message") or "",
        trace=stored.text("Dead-Trace") or "",
        attempts=[a for a in attempts if isinstance(a, dict)] if isinstance(attempts, list) else [],
        origin_stream=headers.get("Dead-Stream", ""),
        origin_sequence=stored.number("Dead-Sequence"),
        dead_at=stored.time("Dead-At") or stored.stored_at,
        worker=headers.get("Dead-Worker", ""),
        size_bytes=stored.number("Dead-Size"),
        traceparent=headers.get("traceparent"),
        replays=stored.number("Dead-Replays"),
        truncated_bytes=stored.number("Dead-Truncated"),
        expires_at=stored.stored_at + timedelta(seconds=max_age_seconds) if max_age_seconds else None,
        payload=stored.payload,
    )


def tell(broker: JetStreamBroker, message: JetStreamMessage | None, reason: DeadReason, error: Any) -> None:
    """Call `after_dead_letter(broker, message, reason, error)` on each middleware that has it."""
    listeners: Iterable[Any] = reversed(broker.middleware)
    for middleware in listeners:
        hook = getattr(middleware, "after_dead_letter", None)
        if hook is None:
            continue
        try:
            hook(broker, message, reason, error)
        except Exception:
            log.critical("Unexpected failure in after_dead_letter of %r.", middleware, exc_info=True)
