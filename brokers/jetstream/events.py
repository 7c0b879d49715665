"""Small events on the status stream: published without waiting, followed from any point in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats.errors
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session, loop_thread
from brokers.jetstream.errors import AWAY, TopologyError
from brokers.jetstream.pull import Pull

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker
    from brokers.jetstream.memory import Memory

log = logging.getLogger(__name__)

EventCallback = Callable[[int, str, bytes], None]

_CREDIT = 256
_PAUSE_SECONDS = 0.5
_INACTIVE_SECONDS = 60.0
# The server is away or refuses; what the client raises beyond that is an nats.errors.Error, too.
_FAILURES: tuple[type[BaseException], ...] = (*AWAY, BrokerConnectionError, TopologyError, nats.errors.Error)


def publish_event(
    broker: JetStreamBroker, subject: str, payload: bytes, msg_id: str | None = None, *, confirm: bool = False
) -> None:
    """Publish an event, for example on "transforms.status.collection.7".

    Unconfirmed events never wait and never raise: one is dropped when the server is away. With
    confirm=True it is stored when this returns; raises Dramatiq's connection errors.
    """
    memory: Memory | None = getattr(broker, "memory", None)
    if memory is not None:
        memory.events.publish(subject, payload, msg_id, confirm=confirm, away=memory.away)
        return
    session = broker.connection.session()
    headers = {"Nats-Msg-Id": msg_id} if msg_id else {}
    if confirm:
        broker.connection.run(session.publish(subject, payload, headers))
    else:
        broker.connection.start(_send(session, subject, payload, headers))


async def _send(session: Session, subject: str, payload: bytes, headers: dict[str, str]) -> None:

    try:
        await (await session.client()).publish(subject, payload, headers=headers or None)
    except _FAILURES as error:
        log.debug("Dropped an event on %s: %s", subject, error)


def _wanted(outstanding: int) -> int:
    return _CREDIT - outstanding if outstanding * 2 <= _CREDIT else 0


class EventSubscription:
    """A running subscription; `close()` ends it, from any thread."""

    def __init__(
        self,
        broker: JetStreamBroker,
        subject: str,
        callback: EventCallback,
        start_sequence: int | None,
        start_time: datetime | None,
    ) -> None:
        self._session = broker.connection.session()
        self._subject, self._callback = subject, callback
        self._next, self._start_time = start_sequence, start_time
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        loop_thread().loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if not self._closed:
            self._task = self._session.spawn(self._run())

    def close(self) -> None:
        """No callback starts after the loop has seen this. Never raises."""
        self._closed = True
        loop_thread().loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not self._closed:
            try:
                await self._follow(await self._make_consumer())
            except _FAILURES as error:
                log.debug("Following %s again: %s", self._subject, error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _make_consumer(self) -> str:
        """A consumer for us alone that starts after the last event seen; it dies when we are gone."""
        stream = self._session.options.status_stream
        await self._session.connected()
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(_INACTIVE_SECONDS * 1e9),
            **await self._start_policy(stream),
        }
        info = await self._session.api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        if self._next is None:
            self._next = int(info["delivered"]["stream_seq"]) + 1
        return str(info["name"])

    async def _start_policy(self, stream: str) -> dict[str, Any]:
        if self._next is not None:
            last = int((await self._session.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])
            # A stream that was made anew counts from 1 again.
            self._next = min(self._next, last + 1)
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, self._next)}
        if self._start_time is not None:
            stamp = self._start_time.astimezone(UTC).isoformat()
            return {"deliver_policy": "by_start_time", "opt_start_time": stamp}
        return {"deliver_policy": "new"}

    async def _follow(self, consumer: str) -> None:
        pull = Pull(
            self._session,
            self._session.options.status_stream,
            consumer,
            wanted=_wanted,
            on_message=self._receive,
        )
        pull.start()
        try:
            await pull.missing.wait()
        finally:
            await pull.stop()

    def _receive(self, msg: Msg) -> None:
        sequence = msg.metadata.sequence.stream
        self._next = sequence + 1
        if self._closed:
            return
        try:
            self._callback(sequence, msg.subject, msg.data)
        except Exception:
            log.exception("An event callback for %s failed.", self._subject)


def subscribe_events(
    broker: JetStreamBroker,
    subject: str,
    callback: EventCallback,
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
) -> EventSubscription:
    """Call `callback(sequence, subject, data)` in the loop's thread for each event, in order.

    Starts with new events, or at a sequence or time in the past. Goes on through reconnections
    without losing or repeating events that the stream still has. The callback must be quick and
    must not call the broker.
    """
    memory: Memory | None = getattr(broker, "memory", None)
    if memory is not None:
        return memory.events.follow(subject, callback, start_sequence, start_time)
    return EventSubscription(broker, subject, callback, start_sequence, start_time)
