"""Messages given up: how they are written down, and read again.

A dead letter keeps the original payload as its body and its history in headers, so a list costs
headers only. It is stored and confirmed before the original is ended. Its id is its sequence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import traceback
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from brokers.jetstream import dead_records
from brokers.jetstream.browse import Stored
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import HEADERS_TOO_LARGE, MessageTooLargeError, PublishRefusedError
from brokers.jetstream.message import DeadReason, Delivery, JetStreamMessage, worker_name
from brokers.jetstream.topology import dead_subject, token

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

# The server refuses more than 64 KiB of headers. These bounds, in bytes as sent, come to 60,000 at most.
_TRACE_CHARACTERS, _MESSAGE_CHARACTERS = 8000, 1000
_TRACE_BYTES, _MESSAGE_BYTES, _ATTEMPTS_BYTES, _NAME_BYTES = 20_000, 8_000, 20_000, 1_500
_TRACE_HEADERS = ("traceparent", "tracestate")
# What a letter can do without.
_FREE_TEXT = {"Dead-Trace": '""', "Dead-Error-Message": '""', "Dead-Attempts": "[]"}


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a letter that was brought back comes from, in the words of whoever did that.

    `origin` names the letter that it was, `parent` the one whose replay that was, `depth` counts the replays.
    """

    origin: str
    parent: str | None = None
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """One given-up message.

    `attempts` are dicts with attempt, worker, version, waited_seconds, started_at, ended_at, error and
    next_delay_seconds (times in Unix seconds); older releases wrote fewer.
    """

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
    provenance: Provenance | None = None  # of one that was brought back (dead_import)


def dead_headers(
    delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: BaseException | None
) -> dict[str, str]:
    """The history of a message as headers; free text is JSON, which has no line breaks."""
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    message_id = message.message_id if message is not None else ""
    headers = {
        "Nats-Msg-Id": f"dead:{delivery.first_stored_id}:{_identity(delivery, message_id)}",
        "Dead-Reason": str(reason),
        "Dead-Error-Class": _class_name(error),
        "Dead-Error-Message": _json(str(error or "")[:_MESSAGE_CHARACTERS], _MESSAGE_BYTES),
        "Dead-Trace": _json(trace[-_TRACE_CHARACTERS:], _TRACE_BYTES, from_end=True),
        "Dead-Attempts": _newest(message.options.get("attempts") if message is not None else None),
        "Dead-Stream": delivery.spec.stream,
        "Dead-Sequence": str(delivery.sequence),
        "Dead-Queue": delivery.spec.name,
        "Dead-At": datetime.now(UTC).isoformat(),
        "Dead-Worker": worker_name(),
        "Dead-Size": str(len(delivery.data)),
    }
    if message is not None:
        headers["Dead-Actor"] = _json(message.actor_name, _NAME_BYTES)
        headers["Dead-Message-Id"] = _json(message_id, _NAME_BYTES)
        headers["Dead-Replays"] = str(replays_of(message.options))
    return headers | {name: text for name in _TRACE_HEADERS if (text := _sane(delivery.headers.get(name)))}


def _identity(delivery: Delivery, message_id: str) -> str:
    """Tells apart what strangers stored with each other's headers; a digest where an id is long or odd."""
    return token(message_id) if message_id else hashlib.sha256(delivery.data).hexdigest()[:32]


def headers_of(letter: DeadLetter) -> dict[str, str]:
    """The history of a letter as headers, for one that is stored once more."""
    headers = {
        "Dead-Reason": letter.reason,
        "Dead-Error-Class": (letter.error_class or "").encode()[:_NAME_BYTES].decode(errors="ignore"),
        "Dead-Error-Message": _json(letter.error_message[:_MESSAGE_CHARACTERS], _MESSAGE_BYTES),
        "Dead-Trace": _json(letter.trace[-_TRACE_CHARACTERS:], _TRACE_BYTES, from_end=True),
        "Dead-Attempts": _newest(letter.attempts),
        "Dead-Stream": letter.origin_stream,
        "Dead-Sequence": str(letter.origin_sequence),
        "Dead-Queue": letter.queue,
        "Dead-At": letter.dead_at.isoformat(),
        "Dead-Worker": letter.worker,
        "Dead-Size": str(letter.size_bytes),
        "Dead-Replays": str(letter.replays),
    }
    texts = {"Dead-Actor": letter.actor, "Dead-Message-Id": letter.message_id}
    headers |= {name: _json(text, _NAME_BYTES) for name, text in texts.items() if text is not None}
    if letter.truncated_bytes:
        headers["Dead-Truncated"] = str(letter.truncated_bytes)
    if letter.traceparent:
        headers["traceparent"] = letter.traceparent
    if letter.provenance is not None:
        headers["Dead-Provenance"] = json.dumps(dataclasses.asdict(letter.provenance))
    return headers


def _json(text: str, most_bytes: int, *, from_end: bool = False) -> str:
    """As much of a text as fits, as JSON; characters that are not ASCII take six bytes or twelve."""
    encoded = json.dumps(text)
    while len(encoded) > most_bytes:
        keep = len(text) * most_bytes // len(encoded)
        text = text[len(text) - keep :] if from_end else text[:keep]
        encoded = json.dumps(text)
    return encoded


def _newest(attempts: Any) -> str:
    """The last attempts, as many as fit, as JSON."""
    kept: list[str] = []
    room = _ATTEMPTS_BYTES
    for attempt in reversed(attempts if isinstance(attempts, list) else []):
        kept.append(json.dumps(attempt))
        room -= len(kept[-1]) + len(", ")
        if room < len("[]"):
            kept.pop()
            break
    return f"[{', '.join(reversed(kept))}]"


def _sane(text: str | None) -> str | None:
    """A header that came with the message, unless it is too long to be what its name says."""
    return text if text and len(text.encode()) <= _NAME_BYTES else None


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
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


async def store(session: Session, delivery: Delivery, headers: dict[str, str]) -> int:
    """Write a dead letter and open its record; both are confirmed when this returns the letter's id."""
    sequence = await _store(session, delivery, headers)
    stored = Stored(sequence, dead_subject(session.options, delivery.spec.name), headers, datetime.now(UTC))
    await dead_records.begin(session, read_letter(stored, 0))
    return sequence


async def _store(session: Session, delivery: Delivery, headers: dict[str, str]) -> int:
    subject = dead_subject(session.options, delivery.spec.name)
    client = await session.client()
    room = min(session.options.max_message_bytes, client.max_payload) // 2
    *versions, last = _versions(delivery.data, headers, room)
    for data, kept in versions:
        try:
            return await session.publish(subject, data, kept)
        except (MessageTooLargeError, PublishRefusedError) as error:
            if isinstance(error, PublishRefusedError) and error.code != HEADERS_TOO_LARGE:
                raise
            log.warning("Dead letter of message %s is stored in part: %s", delivery.key, error)
    return await session.publish(subject, *last)


def _versions(data: bytes, headers: dict[str, str], room: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """A letter, and what is left of it when it is too large; only a whole payload can be replayed."""
    brief = headers | _FREE_TEXT
    cut = {"Dead-Truncated": str(len(data) - room)}
    yield data, headers
    yield data, brief
    if len(data) > room:
        yield data[:room], headers | cut
        yield data[:room], brief | cut


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
        provenance=_provenance(stored.json("Dead-Provenance")),
    )


def _provenance(told: Any) -> Provenance | None:
    if not isinstance(told, dict) or not isinstance(told.get("origin"), str):
        return None
    parent, depth = told.get("parent"), told.get("depth")
    return Provenance(
        told["origin"],
        parent if isinstance(parent, str) else None,
        depth if isinstance(depth, int) and not isinstance(depth, bool) and depth > 0 else 0,
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
