"""Unique until done: a lock beside the message, taken with it in one commit, released at its end.

The lock is a note on a subject made from the key. The server takes it only while that subject is
empty (compare-and-set with expected sequence 0), so of any number of racing producers one gets in.
Success, dead letter and cancelling release it. The note says for how many seconds its message can
live as it is stored now, and is written anew before a retry or a renewed message is: whoever wants
the key after that removes the lock, by its sequence.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import nats.js.errors
from dramatiq.message import Message

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import (
    BEING_OVERTAKEN,
    DUPLICATE_IN_BATCH,
    LOST_RACE,
    NotUniqueError,
    PublishRefusedError,
)
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.outgoing import lock_of, unique_key
from brokers.jetstream.schedule import server_time
from brokers.jetstream.stored import stored_payload
from brokers.jetstream.topology import unique_subject

_REPLICATION_SECONDS, _PAUSE_SECONDS = 2.0, 0.05


@dataclass(frozen=True)
class _Lock:
    """Who holds a key: the lock's own sequence, its message's id, and until when (Unix time)."""

    sequence: int
    message_id: str | None
    until: float


async def holder(session: Session, spec: QueueSpec, key: str) -> _Lock | None:
    """The lock of a key, or None when it is free."""
    subject = unique_subject(session.options, spec.name, key)
    try:
        answer = await session.api(f"STREAM.MSG.GET.{spec.stream}", {"last_by_subj": subject})
    except nats.js.errors.NotFoundError:
        return None
    return _read(answer["message"])


def _read(stored: dict[str, Any]) -> _Lock:
    """A lock without a number of seconds (an older release's) is the server's to end."""
    try:
        note = json.loads(stored_payload(stored) or b"{}")
    except ValueError:
        note = {}
    note = note if isinstance(note, dict) else {}
    seconds = note.get("seconds")
    lasts = float(seconds) if isinstance(seconds, int | float) else float("inf")
    until = server_time(str(stored["time"])).timestamp() + lasts
    return _Lock(int(stored["seq"]), note.get("message_id"), until)


async def explain(
    session: Session, spec: QueueSpec, message: Any, error: PublishRefusedError, now: float
) -> bool:
    """What a refused publish means: True when the message is stored, False when its key is free now.

    `now` is Unix time. Raises NotUniqueError when another message holds the key, and `error` when it
    is about something else.
    """
    key = unique_key(message)
    if key is None or error.code not in LOST_RACE | {DUPLICATE_IN_BATCH}:
        raise error
    if error.code == DUPLICATE_IN_BATCH:  # its own id: stored before, though its lock may be gone again
        return True
    lock = await _winner(session, spec, key, error)
    if lock is None or lock.message_id == message.message_id:
        return lock is not None
    if lock.until < now:
        await session.delete(spec.stream, lock.sequence)
        return False
    raise _not_unique(spec, key, lock) from error


async def _winner(session: Session, spec: QueueSpec, key: str, error: PublishRefusedError) -> _Lock | None:
    """Whose lock was in the way; None when it is gone again."""
    lock = await holder(session, spec, key)
    deadline = time.monotonic() + _REPLICATION_SECONDS
    while lock is None and error.code == BEING_OVERTAKEN and time.monotonic() < deadline:
        await asyncio.sleep(_PAUSE_SECONDS)
        lock = await holder(session, spec, key)
    return lock


def _not_unique(spec: QueueSpec, key: str, lock: _Lock) -> NotUniqueError:
    refused = NotUniqueError(
        f"message {lock.message_id or 'unknown'} of queue {spec.name} with the unique key {key!r} "
        "is not done yet"
    )
    refused.message_id = lock.message_id
    return refused


async def prolong(session: Session, spec: QueueSpec, message: Any, delay_ms: float = 0) -> None:
    """Let the message keep its key, if it has one, for another life from its due time on.

    To be called before it is stored again: what crashes in between must not leave it without its lock.
    """
    key = unique_key(message)
    held = await holder(session, spec, key) if key is not None else None
    if held is None or held.message_id != message.message_id:
        return
    part = lock_of(session.options, spec, message, delay_ms, replacing=held.sequence)
    assert part is not None, "it has a key"
    try:
        await session.publish(part.subject, part.payload, part.headers)
    except PublishRefusedError as error:  # the key is no longer its own; or an answer was lost, and it is
        if error.code not in LOST_RACE:
            raise


async def prolong_stored(session: Session, spec: QueueSpec, payload: bytes) -> None:
    """The same for a message that is due, as its stream holds it."""
    try:
        message: Message[Any] = Message.decode(payload)
        unique_key(message)
    except Exception:  # noqa: BLE001 (not a message of ours: its key is nobody's; who runs it buries it)
        return
    await prolong(session, spec, message)


async def release(session: Session, spec: QueueSpec, message: Any) -> None:
    """Free the message's key, if it has one and holds it still."""
    key = unique_key(message)
    lock = await holder(session, spec, key) if key is not None else None
    if lock is not None and lock.message_id == message.message_id:
        await session.delete(spec.stream, lock.sequence)
