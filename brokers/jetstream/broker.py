"""The broker: Dramatiq's interface on JetStream. README.md has its guarantees."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from dramatiq.broker import Broker
from dramatiq.errors import (
    ActorNotFound,
    BrokerConnectionError,
    DecodeError,
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

from brokers.jetstream import dead_letter, inspect
from brokers.jetstream.connection import Connection, Session, loop_thread
from brokers.jetstream.consumer import Intake, JetStreamConsumer, nak
from brokers.jetstream.errors import CrashLoopError, MessageTooLargeError
from brokers.jetstream.heartbeat import ACK, Holdings
from brokers.jetstream.lifecycle import Lifecycle
from brokers.jetstream.message import (
    CARRIED_HEADER,
    DeadReason,
    Delivery,
    JetStreamMessage,
    decode,
    publish_headers,
)
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.retries import ScheduledRetries
from brokers.jetstream.schedule import delay_until, schedule_headers
from brokers.jetstream.starts import Starts, SuspectGate
from brokers.jetstream.topology import queue_subjects, ready_subject, scheduled_subject

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


class _Live:
    """What this process has running for one broker; made anew after a fork or a close."""

    def __init__(self, session: Session, resume: Callable[[JetStreamMessage], None]) -> None:
        self.session = session
        self.holdings = Holdings(session)
        self.starts = Starts(session)
        self.gate = SuspectGate(resume)
        self.intakes: dict[str, Intake] = {}


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
        self._live: _Live | None = None
        self._live_lock = threading.RLock()
        self._processing = threading.local()
        super().__init__(default_middleware(options) if middleware is None else middleware)
        self.middleware.insert(0, Lifecycle())

    # Dramatiq's interface

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue for this process; raises QueueNotFound unless it is one of the given queues."""
        spec = self._spec(queue_name)
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = spec
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Store a message, now or scheduled; stored and confirmed when this returns.

        `delay` is in milliseconds. Raises QueueNotFound, MessageTooLargeError, and Dramatiq's
        ConnectionFailed or ConnectionClosed within connect and publish timeout.
        """
        spec = self._spec(message.queue_name)
        message = message.copy()
        eta_delay = delay_until(message.options.pop("eta", None))
        delay = eta_delay if delay is None else delay
        self.emit_before("enqueue", message, delay)
        try:
            self._store(spec, message, delay)
        except BrokerConnectionError:
            # Dramatiq swallows what its middleware raises and then acknowledges the message being
            # processed: whatever should have followed it (retry, callback, pipeline) would be lost.
            current = getattr(self._processing, "message", None)
            if current is not None:
                current.hand_back(self.options.hand_back_seconds)
            raise
        self.emit_after("enqueue", message, delay)
        return message

    def _store(self, spec: QueueSpec, message: Message[Any], delay: int | None) -> None:
        body, headers = message.encode(), publish_headers(message)
        retried = "attempts" in message.options
        if len(body) > self.options.max_message_bytes and not retried:
            raise MessageTooLargeError(
                f"the message for {message.actor_name} has {len(body)} bytes, "
                f"more than max_message_bytes ({self.options.max_message_bytes}): pass ids, not contents"
            )
        subject = ready_subject(self.options, spec.name)
        if delay is not None and delay > 0:
            headers |= schedule_headers(delay, subject)
            subject = scheduled_subject(self.options, spec.name, message.message_id)
        self.connection.run(self.connection.session().publish(subject, body, headers))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> JetStreamConsumer:
        """Take messages of a queue, holding at most one per worker thread (or options.prefetch)."""
        spec = self._spec(queue_name)
        capacity = self.options.prefetch or min(prefetch, self.worker_threads or prefetch)
        live = self._running()
        intake = live.intakes.get(queue_name)
        if intake is None:
            intake = live.intakes[queue_name] = Intake(spec, live.session, live.holdings)
        loop_thread().loop.call_soon_threadsafe(intake.start, capacity)
        return JetStreamConsumer(self, intake, timeout)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Emit a signal; while a run is wrapped up, remember whose failure a failed enqueue is."""
        if signal not in {"process_message", "skip_message"} or not isinstance(args[0], JetStreamMessage):
            super().emit_after(signal, *args, **kwargs)
            return
        self._processing.message = args[0]
        try:
            super().emit_after(signal, *args, **kwargs)
        finally:
            self._processing.message = None

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue: ready, scheduled and in flight."""
        spec = self._spec(queue_name)
        session = self.connection.session()
        for subject in queue_subjects(self.options, queue_name):
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
        while not inspect.is_empty(self, self._spec(queue_name)):
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's
            time.sleep(_JOIN_PAUSE_SECONDS)

    def get_queue_message_counts(self, queue_name: str) -> tuple[int, int, int]:
        """(ready and in flight, scheduled, dead) messages of a queue."""
        depth = inspect.depth(self, self._spec(queue_name))
        return depth.ready + depth.in_flight, depth.scheduled, depth.dead

    def close(self) -> None:
        """Wait a moment for outstanding confirmations and disconnect. Never raises."""
        with self._live_lock:
            live, self._live = self._live, None
        if live is not None and live.session is self.connection.session():
            try:
                limit = self.options.close_timeout_seconds
                self.connection.run(live.holdings.confirmed(limit), timeout_seconds=limit + 1)
            except Exception:  # the process is about to end; the server will redeliver
                log.debug("Not all answers were confirmed.", exc_info=True)
        self.connection.close()

    # What the consumer and the lifecycle need

    def admit(self, intake: Intake, delivery: Delivery) -> JetStreamMessage | None:
        """Triage of an arrival: the message to run, or None when it was dealt with otherwise."""
        try:
            return self._admit(delivery)
        except Exception as error:
            log.warning("Message %s is looked at again later: %s", delivery.key, error, exc_info=True)
            loop, pause = loop_thread().loop, self.options.hand_back_seconds
            loop.call_soon_threadsafe(lambda: loop.call_later(pause, intake.put, delivery))
            return None

    def _admit(self, delivery: Delivery) -> JetStreamMessage | None:
        try:
            message = decode(delivery)
        except DecodeError as error:
            self._bury(delivery, None, DeadReason.UNDECODABLE, error)
            return None
        if not delivery.redelivered:
            return message
        live = self._running()
        message.earlier_starts = self.connection.run(live.starts.count(message))
        if message.earlier_starts >= self.options.max_crashes - 1:
            self._bury_crash_loop(live, message)
            return None
        if delivery.deliveries >= self.options.max_deliver - 1:
            self._renew(message)
            return None
        if message.earlier_starts and not live.gate.admit(message):
            return None
        return message

    def _bury_crash_loop(self, live: _Live, message: JetStreamMessage) -> None:
        last = self.connection.run(live.starts.last(message))
        error = CrashLoopError(
            f"{message.earlier_starts + 1} runs started and never ended, the last on worker "
            f"{last.get('worker', 'unknown')}"
        )
        message.stuff_exception(error)
        self._bury(message.delivery, message, DeadReason.CRASH_LOOP, error)
        self.connection.start(live.starts.ended(message))

    def _renew(self, message: JetStreamMessage) -> None:
        """Store the message under a new sequence before the server's max_deliver strands it."""
        delivery = message.delivery
        headers = publish_headers(message)
        headers["Nats-Msg-Id"] += f":renewed:{delivery.sequence}"
        headers[CARRIED_HEADER] = str(delivery.deliveries + delivery.carried)
        subject = ready_subject(self.options, delivery.spec.name)
        self.connection.run(self.connection.session().publish(subject, delivery.data, headers))
        self._settle(delivery, ACK)

    def note_start(self, message: JetStreamMessage) -> None:
        """Record durably that a suspect's run starts now."""
        self.connection.run(self._running().starts.note(message))

    def finish(self, message: JetStreamMessage) -> None:
        """Acknowledge a message; confirmed in the background."""
        self._settle(message.delivery, ACK)
        self._run_ended(message)

    def give_back(self, message: JetStreamMessage, after_seconds: float) -> None:
        """Return a message to its queue without ending or changing it."""
        self._give_back(message.delivery, after_seconds)
        self._running().gate.leave(message)

    def _give_back(self, delivery: Delivery, after_seconds: float) -> None:
        self._settle(delivery, nak(after_seconds))
        if delivery.start_sequence is not None:
            self.connection.start(self._running().starts.interrupted(delivery))

    def bury(self, message: JetStreamMessage) -> None:
        """Write a failed message's dead letter, confirmed, and end the message."""
        self._bury(message.delivery, message, _reason(message), message.error)
        self._run_ended(message)

    def _bury(
        self, delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: Any
    ) -> None:
        headers = dead_letter.dead_headers(delivery, message, reason, error)
        self.connection.run(dead_letter.store(self.connection.session(), delivery, headers))
        log.error("Message %s is dead: %s (%s).", message or delivery.key, reason, error)
        dead_letter.tell(self, message, reason, error)
        self._settle(delivery, b"+TERM " + reason.encode())

    def _run_ended(self, message: JetStreamMessage) -> None:
        live = self._running()
        if message.earlier_starts or message.delivery.start_sequence is not None:
            self.connection.start(live.starts.ended(message))
        live.gate.leave(message)

    def _settle(self, delivery: Delivery, answer: bytes) -> None:
        holdings = self._running().holdings
        loop_thread().loop.call_soon_threadsafe(holdings.settle, delivery, answer)

    def stop_intake(self, intake: Intake) -> None:
        """Take no more messages of a queue; those not yet given to a worker go back."""
        self.connection.run(intake.stop())

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
            if started or not delivery.started:
                self._give_back(delivery, 0)

    def _spec(self, queue_name: str) -> QueueSpec:
        try:
            return self.specs[queue_name]
        except KeyError:
            problem = f"{queue_name!r} is not one of {sorted(self.specs)}"
            raise QueueNotFound(problem) from None  # type: ignore[no-untyped-call]  # Dramatiq's

    def _running(self) -> _Live:
        with self._live_lock:
            session = self.connection.session()
            if self._live is None or self._live.session is not session:
                self._live = self.connection.run(self._start(session))
            return self._live

    async def _start(self, session: Session) -> _Live:
        return _Live(session, self._resume)

    def _resume(self, message: JetStreamMessage) -> None:
        live = self._running()
        loop_thread().loop.call_soon_threadsafe(live.intakes[message.queue_name].put, message)


def _reason(message: JetStreamMessage) -> DeadReason:
    if message.dead_reason is not None:
        return message.dead_reason
    if isinstance(message.error, ActorNotFound):
        return DeadReason.UNKNOWN_ACTOR
    if isinstance(message.error, SkipMessage) and "age limit" in str(message.error).lower():
        return DeadReason.EXPIRED
    return DeadReason.REJECTED
