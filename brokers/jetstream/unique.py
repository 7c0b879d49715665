"""Unique until done: a lock beside the message, taken with it in one commit, released at its end.

The lock is a note on a subject made from the key. The server takes it only while that subject is
empty (compare-and-set with expected sequence 0), so of any number of racing producers one gets in.
Retries keep the lock; success, dead letter and cancelling release it.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import nats.js.errors

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import (
    BEING_OVERTAKEN,
    DUPLICATE_IN_BATCH,
    LOST_RACE,
    NotUniqueError,
    PublishRefusedError,
)
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.outgoing import unique_key
from brokers.jetstream.topology import unique_subject

_REPLICATION_SECONDS, _PAUSE_SECONDS = 2.0, 0.05


class _Lock:
    """Who holds a key: the lock's own sequence and the id of its message."""

    def __init__(self, sequence: int, message_id: str | None) -> None:
        self.sequence, self.message_id = sequence, message_id


async def holder(session: Session, spec: QueueSpec, key: str) -> _Lock | None:
    """The lock of a key, or None when it is free."""
    subject = unique_subject(session.options, spec.name, key)
    try:
        found = await (await session.client()).jetstream().get_last_msg(spec.stream, subject)
    except nats.js.errors.NotFoundError:
        return None
    try:
        note = json.loads(found.data or b"{}")
    except ValueError:
        note = {}
    return _Lock(int(found.seq or 0), note.get("message_id") if isinstance(note, dict) else None)


async def explain(session: Session, spec: QueueSpec, message: Any, error: PublishRefusedError) -> None:
    """Return when a refused commit was stored after all (its answer was lost); else raise.

    Raises NotUniqueError when another message holds the key, and `error` when it says something else.
    """
    key = unique_key(message)
    if key is None or error.code not in LOST_RACE | {DUPLICATE_IN_BATCH}:
        raise error
    lock = await holder(session, spec, key)
    deadline = time.monotonic() + _REPLICATION_SECONDS
    while lock is None and error.code == BEING_OVERTAKEN and time.monotonic() < deadline:
        await asyncio.sleep(_PAUSE_SECONDS)
        lock = await holder(session, spec, key)
    if lock is not None and lock.message_id == message.message_id:
        return
    refused = NotUniqueError(
        f"message {lock.message_id if lock else 'unknown'} of queue {spec.name} with the unique key "
        f"{key!r} is not done yet"
    )
    refused.message_id = lock.message_id if lock else None
    raise refused from error


async def release(session: Session, spec: QueueSpec, message: Any) -> None:
    """Free the message's key, if it has one and holds it still."""
    key = unique_key(message)
    lock = await holder(session, spec, key) if key is not None else None
    if lock is not None and lock.message_id == message.message_id:
        await session.api(f"STREAM.MSG.DELETE.{spec.stream}", {"seq": lock.sequence})
