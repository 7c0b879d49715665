"""The broker: Dramatiq's interface on JetStream. README.md has its guarantees."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from dramatiq.broker import Broker
from dramatiq.errors import (
    ActorNotFound,
    BrokerConnectionError,
    QueueJoinTimeout,
    QueueNotFound,
)
from dramatiq.message import Message
from dramatiq.middleware import (
    AgeLimit,
    Callbacks,
    Middleware,
    Pipelines,
    ShutdownNotifications,
    SkipMessage,
    TimeLimit,
)

from brokers.jetstream import burial, inspect, unique
from brokers.jetstream.burials import Burial
from brokers.jetstream.connection import Connection, Session, loop_thread
from brokers.jetstream.consumer import Intake, JetStreamConsumer
from brokers.jetstream.errors import NotUniqueError
from brokers.jetstream.heartbeat import ACK, nak
from brokers.jetstream.lifecycle import Lifecycle, longest_time_limit
from brokers.jetstream.live import Live
from brokers.jetstream.message import (
    DeadReason,
    Delivery,
    JetStreamMessage,
)
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.retries import ScheduledRetries
from brokers.jetstream.sending import NotAllStoredError, send
from brokers.jetstream.topology import message_subjects
from brokers.jetstream.triage import triage

log = logging.getLogger(__name__)

_JOIN_PAUSE_SECONDS = 0.1


def default_middleware(options: BrokerOptions) -> list[Middleware]:
    """Dramatiq's default list with our retries in place of its own."""
    return [
        AgeLimit(),
        TimeLimit(),
        ShutdownNotifications(),
        Callbacks(),
        Pipelines(),
        ScheduledRetries(options),
    ]


class JetStreamBroker(Broker):
    """A Dramatiq broker whose queues are NATS JetStream WorkQueue streams.

    options     how to reach the server, and the limits
    queues      all queues that may be sent to; a worker consumes those its actors declare
    middleware  complete list; None for `default_middleware(options)`

    Connects on first use, in every process for itself. Streams and consumers must exist
    (topology.apply).
    """

    def __init__(
        self,
        options: BrokerOptions,
        queues: Iterable[QueueSpec],
        middleware: list[Middleware] | None = None,
    ) -> None:
        self.options = options
        self.specs = {spec.name: spec for spec in queues}
        self.connection = Connection(options)
        self.worker_threads: int | None = None
        self._live: Live | None = None
        self._live_lock = threading.RLock()
        self._processing = threading.local()
        super().__init__(default_middleware(options) if middleware is None else middleware)
        self.middleware.insert(0, Lifecycle())

    # Dramatiq's interface

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue for this process; raises QueueNotFound unless it is one of the given queues."""
        spec = self.spec(queue_name)
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = spec
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store a message, now or scheduled; stored and confirmed when this returns.

        `delay` is in milliseconds. Options of the message that the broker knows: `eta` and `deadline`
        (Unix milliseconds), `unique_key`, `traceparent` and `tracestate`. Raises QueueNotFound,
        MessageTooLargeError, NotUniqueError, ValueError for an option, and Dramatiq's ConnectionFailed
        or ConnectionClosed within connect and publish timeout.
        """
        stored, failed = self._send([message], delay)
        if failed:
            raise failed[message.message_id]
        return stored[0]

    def enqueue_many(
        self, messages: Iterable[Message[Any]], *, delay: int | None = None
    ) -> list[Message[Any]]:
        """Store messages in their order, many on the way at a time; returns what was stored.

        One that cannot be stored stops no other: NotAllStoredError names at the end what is stored and
        what is not, and why. The time that `enqueue` has runs for 5,000 messages at a time. Enqueueing
        all of them again is harmless for two minutes.
        """
        stored, failed = self._send(messages, delay)
        if failed:
            raise NotAllStoredError(stored, failed) from next(iter(failed.values()))
        return stored

    def _send(
        self, messages: Iterable[Message[Any]], delay: int | None
    ) -> tuple[list[Message[Any]], dict[str, Exception]]:
        stored, failed = send(self, messages, delay)
        errors = [error for error in failed.values() if not isinstance(error, NotUniqueError)]
        if any(isinstance(error, BrokerConnectionError) for error in errors):
            self.hand_back_current()
        elif errors:
            self._fail_current(errors[0])
        return stored, failed

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> JetStreamConsumer:
        """Take messages of a queue, holding no more than can be started soon (or options.prefetch)."""
        spec = self.spec(queue_name)
        threads = min(prefetch, self.worker_threads or prefetch)
        live = self.running()
        if self.worker_threads is not None and self.options.pulse:
            self.connection.run(live.keep_pulse(self.specs.values()))
        intake = live.intakes.get(queue_name)
        if intake is None:
            intake = live.intakes[queue_name] = Intake(spec, live.session, live.holdings)
        start = functools.partial(intake.start, threads, share=self.worker_threads is not None)
        loop_thread().loop.call_soon_threadsafe(start)
        return JetStreamConsumer(self, intake, timeout)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Emit a signal; while a run is wrapped up, remember whose failure a failed enqueue is."""
        if signal not in {"process_message", "skip_message"} or not isinstance(args[0], JetStreamMessage):
            super().emit_after(signal, *args, **kwargs)
            return
        if signal == "skip_message" and args[0].hand_back_seconds is not None:
            return  # it comes again: nothing of it has ended, no result must say so
        self._processing.message = args[0]
        try:
            super().emit_after(signal, *args, **kwargs)
        finally:
            self._processing.message = None

    def hand_back_current(self) -> None:
        """Let the message whose run is being wrapped up come again: what must follow could not be stored.

        Dramatiq swallows what its middleware raises and then acknowledges the message being processed:
        whatever should have followed it (retry, callback, pipeline, result) would be lost.
        """
        current = getattr(self._processing, "message", None)
        if current is not None:
            current.hand_back(self.options.hand_back_seconds)

    def _fail_current(self, error: Exception) -> None:
        """For the same reason, but what must follow will never be stored: no use in coming again."""
        current = getattr(self._processing, "message", None)
        if current is not None and not current.failed:
            current.fail()
            current.stuff_exception(error)
            current.dead_reason = DeadReason.FOLLOW_UP_NOT_STORABLE

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue: ready, scheduled and in flight."""
        spec = self.spec(queue_name)
        session = self.connection.session()
        for subject in message_subjects(self.options, queue_name):
            self.connection.run(session.api(f"STREAM.PURGE.{spec.stream}", {"filter": subject}))

    def flush_all(self) -> None:
        """Drop all messages of all declared queues."""
        for queue_name in self.get_declared_queues():
            self.flush(queue_name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until a queue is empty (nothing ready, scheduled or in flight); for tests.

        Raises QueueJoinTimeout after `timeout` milliseconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while not inspect.is_empty(self, self.spec(queue_name)):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's
            time.sleep(_JOIN_PAUSE_SECONDS)

    def get_queue_message_counts(self, queue_name: str) -> tuple[int, int, int]:
        """(ready and in flight, scheduled, dead) messages of a queue."""
        depth = inspect.depth(self, self.spec(queue_name))
        return depth.ready + depth.in_flight, depth.scheduled, depth.dead

    def close(self) -> None:
        """Give back what was not begun, wait a moment for confirmations, and disconnect. Never raises."""
        live = self._live
        if live is not None and live.session is self.connection.current:
            try:
                self.stop_intakes()
                live.burials.close()
                self.give_back_held(started=False)
                self._give_back_set_aside(live)
                limit = self.options.close_timeout_seconds
                self.connection.run(live.holdings.confirmed(limit), timeout_seconds=limit + 1)
            except Exception:  # the process is about to end; the server will redeliver
                log.debug("Not all answers were confirmed.", exc_info=True)
        self._live = None
        self.connection.close()

    # What the consumer and the lifecycle need

    @property
    def clock_ahead_ms(self) -> float:
        """How far the clock that deadlines go by is ahead of this machine's; the stub twin's can be."""
        return 0.0

    def admit(self, intake: Intake, delivery: Delivery) -> JetStreamMessage | None:
        """Triage of an arrival: the message to run, or None when it was dealt with otherwise."""
        if delivery.settled:  # given back while it waited here: whoever has it now decides about it
            return None
        try:
            return triage(self, self.running(), delivery)
        except Exception as error:
            log.warning("Message %s is looked at again later: %s", delivery, error, exc_info=True)
            loop, pause = loop_thread().loop, self.options.hand_back_seconds
            loop.call_soon_threadsafe(lambda: loop.call_later(pause, intake.put, delivery))
            return None

    def begun(self, delivery: Delivery) -> None:
        """A thread starts this message now."""
        self.running().holdings.begun(delivery)

    def note_start(self, message: JetStreamMessage) -> None:
        """Record durably that a suspect's run starts now, and take nothing that it could keep from others."""
        self.connection.run(self._note_start(message))

    async def _note_start(self, message: JetStreamMessage) -> None:
        live = self.running()
        await asyncio.gather(*(intake.hold_off() for intake in live.intakes.values()))
        await live.starts.note(message)

    def finish(self, message: JetStreamMessage) -> None:
        """Acknowledge a message; confirmed in the background."""
        if message.delivery.settled:  # given back at shutdown while it ran
            self.running().gate.leave(message)
            return
        self._end(message.delivery, message, ACK)
        self._forget_starts(message)
        self.running().gate.leave(message)

    def give_back(self, message: JetStreamMessage, after_seconds: float) -> None:
        """Return a message to its queue without ending or changing it."""
        self._give_back(message.delivery, after_seconds)
        self.running().gate.leave(message)

    def _give_back(self, delivery: Delivery, after_seconds: float) -> None:
        self.settle(delivery, nak(after_seconds))
        if delivery.start_sequence is not None:
            self.connection.start(self.running().starts.interrupted(delivery))

    def bury(self, message: JetStreamMessage) -> None:
        """Write a failed message's dead letter, confirmed, and end the message: now, or once that works."""
        self.bury_delivery(message.delivery, message, _reason(message), message.error)
        self.running().gate.leave(message)

    def bury_delivery(
        self, delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: Any
    ) -> None:
        """The same for any delivery; `message` is None when it is undecodable."""
        if not self.running().burials.put(Burial(delivery, message, reason, error)):
            self.set_aside(delivery)

    def set_aside(self, delivery: Delivery) -> None:
        """Hold a delivery that needs no thread any more, and no place."""
        loop_thread().loop.call_soon_threadsafe(self.running().holdings.set_aside, delivery)

    def _write_letter(self, dead: Burial) -> None:
        """Store a dead letter, confirmed, and end its message. In the thread of the burials."""
        delivery, message = dead.delivery, dead.message
        headers = burial.dead_headers(delivery, message, dead.reason, dead.error)
        self.connection.run(burial.store(self.connection.session(), delivery, headers))
        log.error("Message %s is dead: %s (%s).", message or delivery, dead.reason, dead.error)
        burial.tell(self, message, dead.reason, dead.error)
        self._end(delivery, message, b"+TERM " + dead.reason.encode())
        if message is not None:
            self._forget_starts(message)

    def _end(self, delivery: Delivery, message: JetStreamMessage | None, answer: bytes) -> None:
        """The last answer for a message; its unique key is free before the server hears it."""
        if message is None or message.continued or not message.options.get("unique_key"):
            self.settle(delivery, answer)
        else:
            self.connection.start(self._release_and_settle(message, answer))

    async def _release_and_settle(self, message: JetStreamMessage, answer: bytes) -> None:
        live, delivery = self.running(), message.delivery
        released = functools.partial(unique.release, live.session, delivery.spec, message)
        await live.holdings.settle_after(released, delivery, answer)

    def _forget_starts(self, message: JetStreamMessage) -> None:
        if message.delivery.redelivered:  # or there are none
            self.connection.start(self.running().starts.ended(message))

    def settle(self, delivery: Delivery, answer: bytes) -> None:
        """End our hold on a delivery with an answer to the server, from any thread."""
        self.running().holdings.settle_soon(delivery, answer, loop_thread().loop)

    def stop_intake(self, intake: Intake) -> None:
        """Take no more messages of a queue; those not yet given to a worker go back."""
        for suspect in self.connection.run(intake.stop()):
            self.running().gate.leave(suspect)

    def stop_intakes(self) -> None:
        """Take no more messages at all."""
        if self._live is not None:
            for intake in list(self._live.intakes.values()):
                self.stop_intake(intake)

    def give_back_held(self, *, started: bool) -> None:
        """Return what this process holds: only the unstarted, or (started=True) everything."""
        if self._live is None:
            return
        for delivery in list(self._live.holdings.held.values()):
            if delivery.claim() or started:
                self._give_back(delivery, 0)

    def _give_back_set_aside(self, live: Live) -> None:
        for delivery in tuple(live.holdings.parked):
            self._give_back(delivery, 0)

    def spec(self, queue_name: str) -> QueueSpec:
        """The queue of that name; raises QueueNotFound."""
        try:
            return self.specs[queue_name]
        except KeyError:
            problem = f"{queue_name!r} is not one of {sorted(self.specs)}"
            raise QueueNotFound(problem) from None  # type: ignore[no-untyped-call]  # Dramatiq's

    def running(self) -> Live:
        """What this process has running, started on first use."""
        live = self._live
        if live is not None and live.session is self.connection.current:
            return live
        with self._live_lock:
            session = self.connection.session()
            if self._live is None or self._live.session is not session:
                self._live = self.connection.run(self._start(session))
            return self._live

    async def _start(self, session: Session) -> Live:
        return Live(session, self._resume, self._write_letter, functools.partial(longest_time_limit, self))

    def _resume(self, message: JetStreamMessage) -> None:
        live = self._live
        if live is None:  # closed, which gives everything back
            return
        intake = live.intakes[message.queue_name]
        if intake.stopped:
            self.give_back(message, 0)  # and the next one's turn comes
        else:
            loop_thread().loop.call_soon_threadsafe(intake.put, message)


def _reason(message: JetStreamMessage) -> DeadReason:
    if message.dead_reason is not None:
        return message.dead_reason
    if isinstance(message.error, ActorNotFound):
        return DeadReason.UNKNOWN_ACTOR
    if isinstance(message.error, SkipMessage) and "age limit" in str(message.error).lower():
        return DeadReason.EXPIRED
    return DeadReason.REJECTED
