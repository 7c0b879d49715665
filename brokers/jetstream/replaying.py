"""Sending a dead letter's message again, exactly once however often and by how many that is tried.

The successor's id follows from the dead letter. It is stored in one atomic batch with a mark on the
subject `replayed.<queue>.<its id>` of the same stream, which is refused when that subject holds a
mark already. So whoever repeats a replay, because another operator does the same or because the
first try died before it could remove the letter, finds the mark and only finishes the rest.

The mark is two messages: one never expires and is removed once the letter is gone; the other
expires with the stream's age and stops an operator who read the letter before that.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dramatiq.errors import DecodeError, QueueNotFound
from dramatiq.message import Message

from brokers.jetstream import browse, dead_records
from brokers.jetstream.batch import Publication, publish_batch
from brokers.jetstream.burial import DeadLetter, read_letter, replays_of
from brokers.jetstream.connection import Session
from brokers.jetstream.dead_records import EndedLetter, Outcome
from brokers.jetstream.errors import (
    DUPLICATE_IN_BATCH,
    WRONG_LAST_SEQUENCE,
    DeadLetterNotFoundError,
    MessageTooLargeError,
    NotReplayableError,
    PublishRefusedError,
    ReplayLimitError,
)
from brokers.jetstream.message import publish_headers
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.topology import ready_subject, replayed_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_SUCCESSORS = uuid.UUID("7f0f3a9e-64f1-4c53-9d86-8c2f7b0f7a51")  # namespace of the successors' ids
# Options that describe the life of the old message, not what it asks for.
_LIFE_OPTIONS = ("retries", "traceback", "requeue_timestamp", "attempts", "eta")
_TAKER = "Dead-Replay"  # who stored the mark


@dataclass(frozen=True)
class Order:
    """Who wants a replay and why, for the record, and how long a line of replays may become."""

    by: str = ""
    why: str = ""
    max_replays: int | None = None  # None: options.max_replays


@dataclass(frozen=True)
class Replayed:
    """The successor, and whether this call stored it or an earlier one had."""

    message: Message[Any]
    stored: bool


async def find(session: Session, dead_letter_id: int) -> DeadLetter:
    """A dead letter with its payload; DeadLetterNotFoundError tells what became of one that is gone."""
    stream, found = session.options.dead_letter_stream, None
    if dead_letter_id > 0:
        found = await browse.one(session, stream, seq=dead_letter_id)
    if found is None:
        ended = await dead_records.of_id(session, dead_letter_id)
        raise _gone(dead_letter_id, ended)
    max_age = (await session.api(f"STREAM.INFO.{stream}"))["config"].get("max_age", 0) / 1e9
    return read_letter(found, max_age)


def _gone(dead_letter_id: int, ended: EndedLetter | None) -> DeadLetterNotFoundError:
    if ended is None:
        return DeadLetterNotFoundError(f"There is no dead letter {dead_letter_id}.")
    return DeadLetterNotFoundError(f"There is no dead letter {dead_letter_id} any more: it was {ended}.")


def successor_id(stream: str, letter: DeadLetter) -> str:
    """The id of the message that replaces a dead letter: always the same one for the same letter."""
    name = f"{stream}:{letter.id}:{letter.message_id}:{letter.dead_at.isoformat()}"
    return str(uuid.uuid5(_SUCCESSORS, name))


def successor(stream: str, letter: DeadLetter, max_replays: int) -> Message[Any]:
    """The message to send for a dead letter; raises NotReplayableError, ReplayLimitError."""
    old = _decode(letter)
    depth = replays_of(old.options) + 1
    if depth > max_replays:
        raise ReplayLimitError(
            f"Dead letter {letter.id}: the message was replayed {depth - 1} times and died again each time "
            f"(max_replays is {max_replays})."
        )
    lineage = {
        "dead_letter": letter.id,
        "message_id": old.message_id,
        "reason": letter.reason,
        "root": _root(old),
        "depth": depth,
    }
    options = {name: value for name, value in old.options.items() if name not in _LIFE_OPTIONS}
    return dataclasses.replace(
        old,
        message_id=successor_id(stream, letter),
        message_timestamp=int(datetime.now(UTC).timestamp() * 1000),
        options={**options, "replay_of": lineage},
    )


def _decode(letter: DeadLetter) -> Message[Any]:
    problem = f"Dead letter {letter.id} ({letter.reason}) is not a message"
    if letter.truncated_bytes:
        raise NotReplayableError(f"{problem} any more: {letter.truncated_bytes} bytes were cut off.")
    try:
        old: Message[Any] = Message.decode(letter.payload or b"")
    except DecodeError as error:
        raise NotReplayableError(f"{problem}.") from error
    texts = (old.queue_name, old.actor_name, old.message_id)
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(old.options, dict):
        raise NotReplayableError(f"{problem} of ours.")
    return old


def _root(old: Message[Any]) -> str:
    lineage = old.options.get("replay_of")
    first = lineage.get("root") or lineage.get("message_id") if isinstance(lineage, dict) else None
    return first if isinstance(first, str) else old.message_id


def replay(broker: JetStreamBroker, dead_letter_id: int, order: Order) -> Replayed:
    """Store a dead letter's successor, record that, and remove the letter: in this order.

    Raises DeadLetterNotFoundError, NotReplayableError, ReplayLimitError, QueueNotFound,
    MessageTooLargeError, PublishRefusedError, and Dramatiq's connection errors.
    """
    session, options = broker.connection.session(), broker.options
    letter = broker.connection.run(_unfinished(broker, session, dead_letter_id))
    most = options.max_replays if order.max_replays is None else order.max_replays
    message = successor(options.dead_letter_stream, letter, most)
    spec = _spec(broker, message)
    broker.emit_before("enqueue", message, None)
    sent = broker.connection.run(_store(session, spec, message))
    record = dead_records.end(
        session, letter, Outcome.REPLAYED, by=order.by, why=order.why, successor_id=message.message_id
    )
    broker.connection.run(record)
    broker.connection.run(_clear(session, letter, spec, sent.mark))
    if sent.stored:
        broker.emit_after("enqueue", message, None)
    return Replayed(message, sent.stored)


async def _unfinished(broker: JetStreamBroker, session: Session, dead_letter_id: int) -> DeadLetter:
    """The letter, unless somebody ended it and died before removing it: then that is done now."""
    letter = await find(session, dead_letter_id)
    ended = await dead_records.of_letter(session, letter)
    if ended is None:
        return letter
    spec, sent_as = _replayed_as(broker, letter)
    mark = await _mark(session, spec, sent_as) if spec is not None else None
    await _clear(session, letter, spec, _lasting(mark))
    raise _gone(letter.id, ended)


async def _clear(session: Session, letter: DeadLetter, spec: QueueSpec | None, mark: int | None) -> None:
    """The end is on record: nothing else is needed to tell a repeated replay so."""
    if spec is not None and mark is not None:
        await browse.delete(session, spec.stream, mark)
    await browse.delete(session, session.options.dead_letter_stream, letter.id)


def _spec(broker: JetStreamBroker, message: Message[Any]) -> QueueSpec:
    spec = broker.specs.get(message.queue_name)
    if spec is None:
        problem = f"{message.queue_name!r} is not one of {sorted(broker.specs)}"
        raise QueueNotFound(problem)  # type: ignore[no-untyped-call]  # Dramatiq's
    return spec


@dataclass(frozen=True)
class _Sent:
    stored: bool
    mark: int | None  # the sequence of the mark that never expires


async def _store(session: Session, spec: QueueSpec, message: Message[Any]) -> _Sent:
    taker = uuid.uuid4().hex
    batch = _batch(session, spec, message, taker)
    size, most = len(batch[-1][1]), session.options.max_message_bytes
    if size > most:
        raise MessageTooLargeError(f"the message has {size} bytes, more than max_message_bytes ({most})")
    try:
        last = await publish_batch(session, batch)
    except PublishRefusedError as error:
        if error.code not in {WRONG_LAST_SEQUENCE, DUPLICATE_IN_BATCH}:
            raise
        mark = await _mark(session, spec, message.message_id)
        # Ours, when the batch was stored and only its confirmation lost.
        ours = mark is not None and mark.headers.get(_TAKER) == taker
        return _Sent(ours, _lasting(mark))
    return _Sent(stored=True, mark=last - len(batch) + 1)


def _batch(session: Session, spec: QueueSpec, message: Message[Any], taker: str) -> list[Publication]:
    mark = replayed_subject(session.options, spec.name, message.message_id)
    first = {"Nats-TTL": "never", "Nats-Expected-Last-Subject-Sequence": "0", _TAKER: taker}
    return [
        (mark, b"", first),
        (mark, b"", {_TAKER: taker}),
        (ready_subject(session.options, spec.name), message.encode(), publish_headers(message)),
    ]


async def _mark(session: Session, spec: QueueSpec, message_id: str) -> browse.Stored | None:
    subject = replayed_subject(session.options, spec.name, message_id)
    return await browse.one(session, spec.stream, seq=1, next_by_subj=subject)


def _lasting(mark: browse.Stored | None) -> int | None:
    """The mark's sequence when it would never expire."""
    return mark.sequence if mark is not None and mark.headers.get("Nats-TTL") == "never" else None


def discard(broker: JetStreamBroker, dead_letter_id: int, *, by: str, why: str) -> EndedLetter | None:
    """Record that a letter is discarded, then remove it. Returns what the record says.

    That is "replayed" when a replay of the letter had got as far as its successor. None: there
    never was such a letter, or its record has expired, too.
    """
    session = broker.connection.session()
    return broker.connection.run(_discard(broker, session, dead_letter_id, by, why))


async def _discard(
    broker: JetStreamBroker, session: Session, dead_letter_id: int, by: str, why: str
) -> EndedLetter | None:
    try:
        letter = await find(session, dead_letter_id)
    except DeadLetterNotFoundError:
        return await dead_records.of_id(session, dead_letter_id)
    spec, sent_as = _replayed_as(broker, letter)
    mark = await _mark(session, spec, sent_as) if spec is not None else None
    if mark is None:
        ended = await dead_records.end(session, letter, Outcome.DISCARDED, by=by, why=why)
    else:
        why = "a replay that had got no further than its message was finished"
        ended = await dead_records.end(
            session, letter, Outcome.REPLAYED, by=by, why=why, successor_id=sent_as
        )
    await _clear(session, letter, spec, _lasting(mark))
    return ended


def _replayed_as(broker: JetStreamBroker, letter: DeadLetter) -> tuple[QueueSpec | None, str]:
    try:
        queue = _decode(letter).queue_name
    except NotReplayableError:
        queue = letter.queue
    return broker.specs.get(queue), successor_id(broker.options.dead_letter_stream, letter)
