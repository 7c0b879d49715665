"""Sending a dead letter's message again, exactly once however often and by how many that is tried.

The successor's id follows from the dead letter. It is stored in one atomic batch with a mark on the
subject `replayed.<queue>.<its id>` of the same stream, which is refused when that subject holds a
mark already. So whoever repeats a replay, because another operator does the same or because the
first try died before it could remove the letter, finds the mark and only finishes the rest.

The lock of a unique key is taken in the same batch.

The mark is two messages: one never expires and is removed once the letter is gone; the other
expires with the stream's age and stops an operator who read the letter before that.

A batch costs the server some milliseconds, however long it is, so letters go several at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.errors import BrokerConnectionError, BrokerError, DecodeError, QueueNotFound
from dramatiq.message import Message

from brokers.jetstream import browse, dead_records, unique
from brokers.jetstream.batch import Publication, publish_batch
from brokers.jetstream.burial import DeadLetter, read_letter, replays_of
from brokers.jetstream.connection import Session
from brokers.jetstream.dead_records import EndedLetter, Outcome
from brokers.jetstream.errors import (
    DUPLICATE_IN_BATCH,
    LOST_RACE,
    DeadLetterNotFoundError,
    MessageTooLargeError,
    NotReplayableError,
    PublishRefusedError,
    ReplayLimitError,
)
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.outgoing import outgoing
from brokers.jetstream.publisher import Outgoing
from brokers.jetstream.topology import replayed_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

T = TypeVar("T")

_SUCCESSORS = uuid.UUID("7f0f3a9e-64f1-4c53-9d86-8c2f7b0f7a51")  # namespace of the successors' ids
# Options that describe the life of the old message, not what it asks for.
_LIFE_OPTIONS = ("retries", "traceback", "requeue_timestamp", "attempts", "eta", "deadline")
_MOST_TRIES = 5  # for a unique key whose holder is gone whenever we look
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


async def find(session: Session, dead_letter_id: int, max_age_seconds: float = 0) -> DeadLetter:
    """A dead letter with its payload; DeadLetterNotFoundError tells what became of one that is gone."""
    stream, found = session.options.dead_letter_stream, None
    if dead_letter_id > 0:
        found = await browse.one(session, stream, seq=dead_letter_id)
    if found is None:
        ended = await dead_records.of_id(session, dead_letter_id)
        raise _gone(dead_letter_id, ended)
    return read_letter(found, max_age_seconds)


def _gone(dead_letter_id: int, ended: EndedLetter | None) -> DeadLetterNotFoundError:
    if ended is None:
        return DeadLetterNotFoundError(f"There is no dead letter {dead_letter_id}.")
    return DeadLetterNotFoundError(f"There is no dead letter {dead_letter_id} any more: it was {ended}.")


def successor_id(stream: str, letter: DeadLetter) -> str:
    """The id of the message that replaces a dead letter: always the same one for the same letter."""
    name = f"{stream}:{letter.id}:{letter.message_id}:{letter.dead_at.isoformat()}"
    # A stranger's id may hold what UTF-8 cannot say.
    return str(uuid.uuid5(_SUCCESSORS, name.encode(errors="backslashreplace").decode()))


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


@dataclass(frozen=True)
class _Unfinished:
    letter: DeadLetter
    record: int  # the sequence of its open record, 0 for none


@dataclass(frozen=True)
class _Plan:
    letter: DeadLetter
    record: int
    message: Message[Any]
    spec: QueueSpec
    outgoing: Outgoing
    taker: str  # tells our mark from another operator's


@dataclass(frozen=True)
class _Sent:
    plan: _Plan
    stored: bool
    mark: int | None  # the sequence of the mark that never expires


def replay(broker: JetStreamBroker, ids: Sequence[int], order: Order) -> dict[int, Replayed | BrokerError]:
    """Store the letters' successors, record that, and remove the letters: in this order.

    What stands in the way of one letter is in its place in the result (DeadLetterNotFoundError,
    NotReplayableError, ReplayLimitError, QueueNotFound, MessageTooLargeError, NotUniqueError,
    PublishRefusedError) and does not touch the others. Raises Dramatiq's connection errors.
    """
    session, run = broker.connection.session(), broker.connection.run
    results: dict[int, Replayed | BrokerError] = {}
    plans: list[_Plan] = []
    for key, found in run(_all({key: _unfinished(broker, session, key) for key in ids})).items():
        try:
            plans.append(_plan(broker, found, order))
        except BrokerError as error:
            results[key] = error
    sent = run(_store(session, plans))
    for key, replayed in run(_all({key: _finish(session, one, order) for key, one in sent.items()})).items():
        results[key] = replayed
        if isinstance(replayed, Replayed) and replayed.stored:
            broker.emit_after("enqueue", replayed.message, None)
    return results


async def _all(work: dict[int, Coroutine[Any, Any, T]]) -> dict[int, T | BrokerError]:
    """The results by letter; an error that concerns one letter only stands in for its result."""
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not _concerns_one(result):
            raise result
    return dict(zip(work, results, strict=True))  # type: ignore[arg-type]  # all others were raised


def _concerns_one(error: BaseException) -> bool:
    """Whether others may fare better: a server that is away is so for all, what it refuses is one message."""
    if isinstance(error, PublishRefusedError):
        return True
    return isinstance(error, BrokerError) and not isinstance(error, BrokerConnectionError)


def _plan(broker: JetStreamBroker, found: _Unfinished | BrokerError, order: Order) -> _Plan:
    if isinstance(found, BrokerError):
        raise found
    options, letter = broker.options, found.letter
    deepest = options.max_replays if order.max_replays is None else order.max_replays
    message = successor(options.dead_letter_stream, letter, deepest)
    spec = _spec(broker, message)
    broker.emit_before("enqueue", message, None)
    try:
        to_send = outgoing(options, spec, message, None)
    except ValueError as error:
        raise NotReplayableError(f"Dead letter {letter.id} cannot be sent again: {error}.") from error
    return _Plan(letter, found.record, message, spec, to_send, taker=uuid.uuid4().hex)


async def _store(session: Session, plans: list[_Plan]) -> dict[int, _Sent | BrokerError]:
    streams: dict[str, list[_Plan]] = {}
    for plan in plans:
        streams.setdefault(plan.spec.stream, []).append(plan)
    results: dict[int, _Sent | BrokerError] = {}
    for group in streams.values():
        results |= await _store_together(session, group)
    return results


async def _store_together(session: Session, plans: list[_Plan]) -> dict[int, _Sent | BrokerError]:
    batches = [_publications(session, plan) for plan in plans]
    together = list(itertools.chain.from_iterable(batches))
    try:
        first = await publish_batch(session, together) - len(together) + 1
    except (PublishRefusedError, MessageTooLargeError):
        return await _store_each(session, plans)
    marks = itertools.accumulate(map(len, batches), initial=first)
    return {
        plan.letter.id: _Sent(plan, stored=True, mark=mark) for plan, mark in zip(plans, marks, strict=False)
    }


async def _store_each(session: Session, plans: list[_Plan]) -> dict[int, _Sent | BrokerError]:
    """One after the other, to see which one is refused; the server takes 50 batches at a time only."""
    results: dict[int, _Sent | BrokerError] = {}
    for plan in plans:
        results |= await _all({plan.letter.id: _store_alone(session, plan)})
    return results


async def _store_alone(session: Session, plan: _Plan, tries: int = _MOST_TRIES) -> _Sent:
    batch = _publications(session, plan)
    try:
        return _Sent(plan, stored=True, mark=await publish_batch(session, batch) - len(batch) + 1)
    except PublishRefusedError as error:
        if error.code not in LOST_RACE | {DUPLICATE_IN_BATCH}:
            raise
        mark = await _mark(session, plan.spec, plan.message.message_id)
        if mark is None:  # nobody has taken the letter; who has the key?
            stored = await unique.explain(session, plan.spec, plan.message, error, time.time())
            if not stored and tries > 1:
                return await _store_alone(session, plan, tries - 1)
            mark = await _mark(session, plan.spec, plan.message.message_id)
        if mark is None:  # whatever this was, the letter stays dead
            raise
    # Ours, when the batch was stored and only its confirmation lost.
    ours = mark.headers.get(_TAKER) == plan.taker
    return _Sent(plan, ours, _lasting(mark))


def _publications(session: Session, plan: _Plan) -> list[Publication]:
    mark = replayed_subject(session.options, plan.spec.name, plan.message.message_id)
    message, lock = plan.outgoing
    first = {"Nats-TTL": "never", "Nats-Expected-Last-Subject-Sequence": "0", _TAKER: plan.taker}
    return [
        (mark, b"", first),
        (mark, b"", {_TAKER: plan.taker}),
        *((part.subject, part.payload, dict(part.headers)) for part in (lock, message) if part is not None),
    ]


async def _finish(session: Session, sent: _Sent | BrokerError, order: Order) -> Replayed:
    if isinstance(sent, BrokerError):
        raise sent
    letter, message = sent.plan.letter, sent.plan.message
    told = {"by": order.by, "why": order.why, "successor_id": message.message_id}
    await dead_records.end_seen(session, letter, sent.plan.record, Outcome.REPLAYED, **told)
    await _clear(session, letter, sent.plan.spec, sent.mark)
    return Replayed(message, sent.stored)


async def _unfinished(broker: JetStreamBroker, session: Session, dead_letter_id: int) -> _Unfinished:
    """The letter, unless somebody ended it and died before removing it: then that is done now."""
    letter = await find(session, dead_letter_id)
    ended, record = await dead_records.of_letter(session, letter)
    if ended is None:
        return _Unfinished(letter, record)
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
    finished = "a replay that had got no further than its message was finished"
    ended = await _finish_begun(broker, session, letter, Order(by, finished))
    if ended is None:
        ended = await dead_records.end(session, letter, Outcome.DISCARDED, by=by, why=why)
        await _clear(session, letter, None, None)
    return ended


def finish(broker: JetStreamBroker, ids: Sequence[int], order: Order) -> dict[int, EndedLetter]:
    """How letters ended, by id; replays that got no further than their message are finished first."""
    session = broker.connection.session()
    found = broker.connection.run(_all({key: _ended(broker, session, key, order) for key in ids}))
    return {key: ended for key, ended in found.items() if isinstance(ended, EndedLetter)}


async def _ended(
    broker: JetStreamBroker, session: Session, dead_letter_id: int, order: Order
) -> EndedLetter | None:
    try:
        found = await _unfinished(broker, session, dead_letter_id)
    except DeadLetterNotFoundError:
        return await dead_records.of_id(session, dead_letter_id)
    return await _finish_begun(broker, session, found.letter, order)


async def _finish_begun(
    broker: JetStreamBroker, session: Session, letter: DeadLetter, order: Order
) -> EndedLetter | None:
    """Record a replay whose successor is stored, and remove the letter; None where there is none."""
    spec, sent_as = _replayed_as(broker, letter)
    mark = await _mark(session, spec, sent_as) if spec is not None else None
    if mark is None:
        return None
    told = {"by": order.by, "why": order.why, "successor_id": sent_as}
    ended = await dead_records.end(session, letter, Outcome.REPLAYED, **told)
    await _clear(session, letter, spec, _lasting(mark))
    return ended


def _replayed_as(broker: JetStreamBroker, letter: DeadLetter) -> tuple[QueueSpec | None, str]:
    try:
        queue = _decode(letter).queue_name
    except NotReplayableError:
        queue = letter.queue
    return broker.specs.get(queue), successor_id(broker.options.dead_letter_stream, letter)
