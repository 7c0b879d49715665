"""What the server still has, read with nats-py alone: the broker's own view is what is being tested."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import nats
import nats.errors
import nats.js.errors
from dramatiq.message import Message

from tests.integration.broker.faults.checker import ServerState
from tests.support.stack import run_apart

_WORK, _DEAD = "QUICK", "DLQ_TRANSFORMS"
_TO_RUN = ("transforms.ready.", "transforms.scheduled.")


def read_state(url: str) -> ServerState:
    """The messages that are left, by id."""
    found: ServerState = run_apart(_with_jetstream, url, _read)
    return found


def left(url: str) -> int | None:
    """How many messages are still to be run, now or later; None when the server does not say."""
    try:
        return int(run_apart(_with_jetstream, url, _left))
    except (OSError, TimeoutError, nats.errors.Error):
        return None


async def _with_jetstream(url: str, work: Any) -> Any:
    client = await nats.connect(url.split(","), allow_reconnect=False, connect_timeout=2)
    try:
        return await work(client.jetstream(timeout=5))
    finally:
        await client.close()


async def _left(js: Any) -> int:
    info = await js.stream_info(_WORK, subjects_filter=">")
    subjects = info.state.subjects or {}
    return sum(number for subject, number in subjects.items() if subject.startswith(_TO_RUN))


async def _read(js: Any) -> ServerState:
    waiting = [_id(m) async for m in _messages(js, _WORK) if m.subject.startswith(_TO_RUN)]
    dead = [_id(m) async for m in _messages(js, _DEAD)]
    return ServerState(frozenset(waiting), frozenset(dead))


async def _messages(js: Any, stream: str) -> AsyncIterator[Any]:
    sequence = 1
    while True:
        try:
            found = await js.get_msg(stream, seq=sequence, subject=">", next=True)
        except nats.js.errors.NotFoundError:
            return
        yield found
        sequence = found.seq + 1


def _id(message: Any) -> str:
    return Message.decode(message.data).message_id
