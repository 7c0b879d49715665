"""Messages given up: how they are written down, and what a person can do with them.

A dead letter keeps the original payload as its body and its history in headers, so a list costs
headers only. It is stored and confirmed before the original is ended. Its id is its sequence.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats.js.errors
from dramatiq.errors import DecodeError
from dramatiq.message import Message, generate_unique_id
from nats.js import api

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import DeadLetterNotFoundError, MessageTooLargeError, NotReplayableError
from brokers.jetstream.message import DeadReason, Delivery, JetStreamMessage, worker_name
from brokers.jetstream.topology import dead_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker
    from brokers.jetstream.memory import DeadLetterBox

log = logging.getLogger(__name__)

_TRACE_CHARACTERS, _MESSAGE_CHARACTERS = 8000, 1000
_FETCH_SECONDS = 2.0
_NEW_CONSUMER_PAUSE_SECONDS = 0.05
# Options that describe the life of the old message, not what it asks for.
_LIFE_OPTIONS = ("retries", "traceback", "requeue_timestamp", "attempts", "eta")


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
    truncated_bytes: int = 0
    payload: bytes | None = None  # only from `get`


def dead_headers(
    delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: BaseException | None
) -> dict[str, str]:
    """The history of a message as headers; free text is JSON, which has no line breaks."""
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    message_id = message.message_id if message is not None else ""
    headers = {
        "Nats-Msg-Id": f"dead:{delivery.spec.stream}:{delivery.sequence}:{message_id}",
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
    kept = {
        name: delivery.headers[name] for name in ("traceparent", "tracestate") if name in delivery.headers
    }
    return headers | kept


def _class_name(error: BaseException | None) -> str:
    if error is None:
        return ""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


async def store(session: Session, delivery: Delivery, headers: dict[str, str]) -> int:
    """Write a dead letter and return its id; it is confirmed when this returns."""
    subject = dead_subject(session.options, delivery.spec.name)
    try:
        return await session.publish(subject, delivery.data, headers)
    except MessageTooLargeError:
        room = session.options.max_message_bytes // 2
        headers = headers | {"Dead-Truncated": str(len(delivery.data) - room)}
        return await session.publish(subject, delivery.data[:room], headers)


def _json(headers: dict[str, str], name: str, default: Any) -> Any:
    try:
        return json.loads(headers[name])
    except (KeyError, ValueError):
        return default


def _number(headers: dict[str, str], name: str) -> int:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _read(sequence: int, subject: str, headers: dict[str, str], payload: bytes | None) -> DeadLetter:
    try:
        dead_at = datetime.fromisoformat(headers.get("Dead-At", ""))
    except ValueError:
        dead_at = datetime.fromtimestamp(0, UTC)
    return DeadLetter(
        id=sequence,
        queue=headers.get("Dead-Queue") or subject.rsplit(".", 1)[-1],
        reason=headers.get("Dead-Reason", "unknown"),
        actor=_json(headers, "Dead-Actor", None),
        message_id=_json(headers, "Dead-Message-Id", None),
        error_class=headers.get("Dead-Error-Class") or None,
        error_message=str(_json(headers, "Dead-Error-Message", "")),
        trace=str(_json(headers, "Dead-Trace", "")),
        attempts=list(_json(headers, "Dead-Attempts", [])),
        origin_stream=headers.get("Dead-Stream", ""),
        origin_sequence=_number(headers, "Dead-Sequence"),
        dead_at=dead_at,
        worker=headers.get("Dead-Worker", ""),
        size_bytes=_number(headers, "Dead-Size"),
        traceparent=headers.get("traceparent"),
        truncated_bytes=_number(headers, "Dead-Truncated"),
        payload=payload,
    )


def _in_memory(broker: JetStreamBroker) -> DeadLetterBox | None:
    """Where the stub broker's dead letters lie; None for a broker with a server."""
    memory = getattr(broker, "memory", None)
    return memory.dead_letters if memory is not None else None


def list_dead(
    broker: JetStreamBroker, limit: int = 50, *, queue: str | None = None, before: int | None = None
) -> list[DeadLetter]:
    """The newest dead letters first, without payloads; `before` (an id) pages towards older ones."""
    box = _in_memory(broker)
    if box is not None:
        return box.newest(limit, queue, before)
    return broker.connection.run(_list(broker.connection.session(), limit, queue, before))


async def _list(session: Session, limit: int, queue: str | None, before: int | None) -> list[DeadLetter]:
    state = (await session.api(f"STREAM.INFO.{session.options.dead_letter_stream}"))["state"]
    end = min(before or state["last_seq"] + 1, state["last_seq"] + 1)
    window, found = max(limit, 1), list[DeadLetter]()
    while end > state["first_seq"] and len(found) < limit and state["messages"]:
        start = max(state["first_seq"], end - window)
        found += reversed(await _headers_between(session, queue, start, end))
        end, window = start, window * 4
    return found[:limit]


async def _headers_between(session: Session, queue: str | None, start: int, end: int) -> list[DeadLetter]:
    """Dead letters with start <= id < end, oldest first, by a headers-only consumer made for this."""
    client = await session.client()
    js, stream = client.jetstream(), session.options.dead_letter_stream
    config = api.ConsumerConfig(
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=api.AckPolicy.NONE,
        filter_subject=dead_subject(session.options, queue) if queue else None,
        headers_only=True,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=30.0,
    )
    info = await js.add_consumer(stream, config)
    subscription = await js.pull_subscribe_bind(stream=stream, consumer=info.name)
    found: list[DeadLetter] = []
    try:
        left = min(info.num_pending or 0, end - start)
        while left > 0:
            batch = await _fetch(subscription, left)
            letters = [
                _read(m.metadata.sequence.stream, m.subject, dict(m.headers or {}), None) for m in batch
            ]
            found += [letter for letter in letters if letter.id < end]
            left = left - len(batch) if letters[-1].id < end else 0
    finally:
        await subscription.unsubscribe()
        await js.delete_consumer(stream, info.name)
    return found


async def _fetch(subscription: Any, most: int) -> list[Any]:
    """Messages of a consumer that was made a moment ago: not every server of a cluster knows it yet."""
    deadline = time.monotonic() + _FETCH_SECONDS
    while True:
        try:
            return list(await subscription.fetch(most, timeout=_FETCH_SECONDS))
        except nats.js.errors.ServiceUnavailableError:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(_NEW_CONSUMER_PAUSE_SECONDS)


def get(broker: JetStreamBroker, dead_letter_id: int) -> DeadLetter:
    """One dead letter with its payload; raises DeadLetterNotFoundError."""
    box = _in_memory(broker)
    if box is not None:
        return box.get(dead_letter_id)
    return broker.connection.run(_get(broker.connection.session(), dead_letter_id))


async def _get(session: Session, sequence: int) -> DeadLetter:
    js = (await session.client()).jetstream()
    try:
        found = await js.get_msg(session.options.dead_letter_stream, sequence)
    except nats.js.errors.NotFoundError:
        raise DeadLetterNotFoundError(f"There is no dead letter {sequence}.") from None
    return _read(sequence, found.subject, dict(found.headers or {}), found.data or b"")


def replay(broker: JetStreamBroker, dead_letter_id: int) -> Message[Any]:
    """Send a dead letter's message again as a new one that names it; then remove the dead letter.

    In this order: a crash in between leaves both, never neither. Raises DeadLetterNotFoundError,
    NotReplayableError, QueueNotFound, and Dramatiq's connection errors.
    """
    letter = get(broker, dead_letter_id)
    message = broker.enqueue(_successor(letter))
    discard(broker, dead_letter_id)
    return message


def _successor(letter: DeadLetter) -> Message[Any]:
    try:
        old: Message[Any] = Message.decode(letter.payload or b"")
    except DecodeError as error:
        raise NotReplayableError(f"Dead letter {letter.id} ({letter.reason}) is not a message.") from error
    options = {name: value for name, value in old.options.items() if name not in _LIFE_OPTIONS}
    lineage = {"dead_letter": letter.id, "message_id": old.message_id, "reason": letter.reason}
    return dataclasses.replace(
        old,
        message_id=generate_unique_id(),
        message_timestamp=int(datetime.now(UTC).timestamp() * 1000),
        options={**options, "replay_of": lineage},
    )


def discard(broker: JetStreamBroker, dead_letter_id: int) -> None:
    """Remove a dead letter for good; removing one that is gone is no error."""
    box = _in_memory(broker)
    if box is not None:
        box.discard(dead_letter_id)
        return
    session = broker.connection.session()

    async def remove() -> None:
        try:
            await session.api(
                f"STREAM.MSG.DELETE.{session.options.dead_letter_stream}", {"seq": dead_letter_id}
            )
        except nats.js.errors.APIError as error:
            log.debug("Dead letter %s was gone: %s", dead_letter_id, error.description)

    broker.connection.run(remove())


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
