"""Small events on the status stream: published without waiting, followed or read from any point in it."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session, loop_thread
from brokers.jetstream.errors import AWAY, TopologyError, connection_error
from brokers.jetstream.pull import Pull

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker
    from brokers.jetstream.memory import Memory

log = logging.getLogger(__name__)

Event = tuple[int, str, bytes]  # sequence, subject, data
EventCallback = Callable[[int, str, bytes], None]
StartCallback = Callable[[int], None]

_CREDIT = 256
_PAUSE_SECONDS = 0.5
_INACTIVE_SECONDS = 60.0
_READ_SECONDS = 1.0  # a page ends early after so long
_READ_LIMIT_SECONDS = 3.0  # and a server that took longer for it is away
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
        on_start: StartCallback,
    ) -> None:
        self._session = broker.connection.session()
        self._subject, self._callback, self._on_start = subject, callback, on_start
        self._next, self._start_time = start_sequence, start_time
        self._life: str | None = None  # when the stream that is followed was made
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
        unbroken = self._find_place(await self._session.api(f"STREAM.INFO.{stream}"))
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(_INACTIVE_SECONDS * 1e9),
            **self._start_policy(),
        }
        info = await self._session.api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
        if self._next is None:
            self._next = int(info["delivered"]["stream_seq"]) + 1
        if not unbroken:
            self._started(self._next - 1)
        return str(info["name"])

    def _find_place(self, stream: dict[str, Any]) -> bool:
        """Where to go on in the stream as it is now; False where events may have been missed before that."""
        known, self._life = self._life, str(stream["created"])
        if self._next is None:
            return False
        first, last = int(stream["state"]["first_seq"]), int(stream["state"]["last_seq"])
        wanted = 1 if known not in {None, self._life} else self._next  # a stream made anew counts from 1
        # Beyond the end: the server lost, or was restored without, what came last.
        self._next = min(max(wanted, first), last + 1)
        return known == self._life and self._next == wanted

    def _start_policy(self) -> dict[str, Any]:
        if self._next is not None:
            return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, self._next)}
        if self._start_time is not None:
            stamp = self._start_time.astimezone(UTC).isoformat()
            return {"deliver_policy": "by_start_time", "opt_start_time": stamp}
        return {"deliver_policy": "new"}

    def _started(self, sequence: int) -> None:
        if self._closed:
            return
        try:
            self._on_start(sequence)
        except Exception:
            log.exception("The start callback for events on %s failed.", self._subject)

    async def _follow(self, consumer: str) -> None:
        pull = Pull(
            self._session,
            self._session.options.status_stream,
            consumer,
            wanted=_wanted,
            on_message=lambda msg: self._take(pull, msg),
        )
        # What was on its way to us went down with the old connection, and the server counts it as
        # delivered (no acks): a new consumer starts after the last event seen.
        reconnected = pull.missing.set
        self._session.on_connect.append(reconnected)
        pull.start()
        try:
            await pull.missing.wait()
        finally:
            self._session.on_connect.remove(reconnected)
            await pull.stop()

    def _take(self, pull: Pull, msg: Msg) -> None:
        self._receive(msg)
        pull.wake()  # nothing is held: what has come makes room for more at once

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
    on_start: StartCallback = lambda _sequence: None,
) -> EventSubscription:
    """Call `callback(sequence, subject, data)` in the loop's thread for each event, in order.

    Starts with new events, or at a sequence or time in the past. Goes on through reconnections
    without losing or repeating events that the stream still has. `on_start(sequence)` is called once
    every event after that sequence will be heard: when following begins, and again whenever it goes
    on with events missing in between (too old by then, or the stream was made anew). The callbacks
    must be quick and must not call the broker.
    """
    memory: Memory | None = getattr(broker, "memory", None)
    if memory is None:
        return EventSubscription(broker, subject, callback, start_sequence, start_time, on_start)
    newest = _kept(memory, ">")[-1:]
    subscription = memory.events.follow(subject, callback, start_sequence, start_time)
    on_start(newest[0][0] if newest else 0)
    return subscription


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events of the stream, in order, and which ones it keeps.

    `complete` is False when more of them wait behind the last one here. The stream keeps what lies between
    `first` and `last`; an empty one has its `first` behind its `last`, or no numbers yet (0 and 0).
    """

    events: Sequence[Event]
    complete: bool
    first: int
    last: int

    def misses_after(self, sequence: int) -> bool:
        """Whether a page read after `sequence` may lack events: forgotten ones, or it is another stream's."""
        return sequence + 1 < self.first or sequence > self.last


def read_events(broker: JetStreamBroker, subject: str, after: int, *, limit: int = 100) -> EventPage:
    """Read at most `limit` events with a sequence greater than `after`, without a subscription.

    Takes a second at most while the server answers, and returns what it has by then. Raises Dramatiq's
    ConnectionFailed when the server is away, TopologyError when there is no such stream.
    """
    memory: Memory | None = getattr(broker, "memory", None)
    if memory is not None:
        return _read_memory(memory, subject, after, limit)
    reading = _read(broker.connection.session(), subject, after, limit)
    try:
        return broker.connection.run(reading, timeout_seconds=_READ_LIMIT_SECONDS)
    except nats.errors.Error as error:
        raise connection_error(f"reading events on {subject}", error) from error


async def _read(session: Session, subject: str, after: int, limit: int) -> EventPage:
    deadline = time.monotonic() + _READ_SECONDS
    events: list[Event] = []
    complete = False
    while not complete and len(events) < limit and (not events or time.monotonic() < deadline):
        event = await _next_event(session, subject, events[-1][0] if events else after)
        if event is not None:
            events.append(event)
        complete = event is None
    # Asked last: what was not yet forgotten now can't have been while we read.
    info = await session.api(f"STREAM.INFO.{session.options.status_stream}")
    return EventPage(events, complete, int(info["state"]["first_seq"]), int(info["state"]["last_seq"]))


async def _next_event(session: Session, subject: str, after: int) -> Event | None:
    wanted = {"seq": after + 1, "next_by_subj": subject}
    try:
        answer = await session.api(f"STREAM.MSG.GET.{session.options.status_stream}", wanted)
    except nats.js.errors.NotFoundError:
        return None
    message = answer["message"]
    return int(message["seq"]), str(message["subject"]), base64.b64decode(message.get("data", ""))


def _read_memory(memory: Memory, subject: str, after: int, limit: int) -> EventPage:
    if memory.away:
        raise connection_error(f"reading events on {subject}", None)
    everything = _kept(memory, ">")
    found = [event for event in _kept(memory, subject) if event[0] > after]
    first, last = (everything[0][0], everything[-1][0]) if everything else (1, 0)
    return EventPage(found[:limit], len(found) <= limit, first, last)


def _kept(memory: Memory, subject: str) -> list[Event]:
    """What the twin's stream holds on a subject: told to a follower from the start, and no longer."""
    events: list[Event] = []
    memory.events.follow(subject, lambda *event: events.append(event), 1, None).close()
    return events
