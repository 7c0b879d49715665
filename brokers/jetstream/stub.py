"""The stub twin: a JetStreamBroker without a server, for unit tests of senders and actors."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from dramatiq.errors import DecodeError, QueueJoinTimeout
from dramatiq.message import Message
from dramatiq.middleware import Middleware

from brokers.jetstream import dead_letter
from brokers.jetstream.broker import JetStreamBroker, _reason
from brokers.jetstream.connection import Connection, Session
from brokers.jetstream.consumer import JetStreamConsumer
from brokers.jetstream.errors import MessageTooLargeError, connection_error
from brokers.jetstream.memory import Memory
from brokers.jetstream.message import DeadReason, Delivery, JetStreamMessage, decode, publish_headers
from brokers.jetstream.options import BrokerOptions, QueueSpec

log = logging.getLogger(__name__)


class _NoServer(Connection):
    """Stands where the connection would be: a unit test must not reach a server that happens to run."""

    def session(self) -> Session:
        raise NotImplementedError("the stub broker has no server; this needs a real JetStreamBroker")


class JetStreamStubBroker(JetStreamBroker):
    """A JetStreamBroker whose streams lie in memory; same arguments, middleware, messages and dead letters.

    `advance(seconds)` puts its clock forward, so that delays and retries need no waiting. While `away` is
    True, enqueue raises Dramatiq's ConnectionFailed as it does when the server is gone. `publish_raw`
    stores any bytes. `dead_letter`, `inspect` and events work on it.

    It knows one process: there are no deaths of workers, so no redelivery after ack_wait and no crash
    loops, and nothing ends by age.
    """

    def __init__(
        self,
        options: BrokerOptions,
        queues: Iterable[QueueSpec],
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(options, queues, middleware)
        self.connection = _NoServer(options)
        self.memory = Memory(options, self.specs.values())
        self.away = False

    def advance(self, seconds: float) -> None:
        """Put the broker's clock forward; what is due by then is handed out at once."""
        self.memory.advance(seconds)

    def publish_raw(self, queue_name: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Store bytes as a stranger would; raises QueueNotFound."""
        self.memory.store(self._spec(queue_name), payload, dict(headers or {}))

    # Dramatiq's interface

    def _store(self, spec: QueueSpec, message: Message[Any], delay: int | None) -> None:
        body = message.encode()
        if len(body) > self.options.max_message_bytes and "attempts" not in message.options:
            raise MessageTooLargeError(
                f"the message for {message.actor_name} has {len(body)} bytes, "
                f"more than max_message_bytes ({self.options.max_message_bytes}): pass ids, not contents"
            )
        if self.away:
            raise connection_error("the stub broker is away", None)
        self.memory.store(spec, body, publish_headers(message), delay_seconds=max(0, delay or 0) / 1000)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> StubConsumer:
        """Take messages of a queue, holding at most one per worker thread (or options.prefetch)."""
        spec = self._spec(queue_name)
        capacity = self.options.prefetch or min(prefetch, self.worker_threads or prefetch)
        self.memory.open(queue_name)
        return StubConsumer(self, spec, capacity, timeout)

    def flush(self, queue_name: str) -> None:
        """Drop all messages of a queue: ready, scheduled and in flight."""
        self.memory.flush(self._spec(queue_name).name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until a queue is empty; raises QueueJoinTimeout after `timeout` milliseconds."""
        seconds = None if timeout is None else timeout / 1000
        if not self.memory.wait_empty(self._spec(queue_name).name, seconds):
            raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's

    def close(self) -> None:
        """Hand out nothing more. What is stored stays, as it would on a server."""
        self.memory.shut()

    # What the consumer and the lifecycle need

    def admit_stored(self, delivery: Delivery) -> JetStreamMessage | None:
        """The message to run, or None when it cannot be read and is dead."""
        try:
            return decode(delivery)
        except DecodeError as error:
            self._bury(delivery, None, DeadReason.UNDECODABLE, error)
            return None

    def note_start(self, message: JetStreamMessage) -> None:
        """Nothing to record: what kills this process takes its queues along."""

    def finish(self, message: JetStreamMessage) -> None:
        """Acknowledge a message."""
        self.memory.end(message.delivery)

    def give_back(self, message: JetStreamMessage, after_seconds: float) -> None:
        """Return a message to its queue without ending or changing it."""
        self.memory.give_back(message.delivery, after_seconds)

    def bury(self, message: JetStreamMessage) -> None:
        """Write a failed message's dead letter and end the message."""
        self._bury(message.delivery, message, _reason(message), message.error)

    def _bury(
        self, delivery: Delivery, message: JetStreamMessage | None, reason: DeadReason, error: Any
    ) -> None:
        headers = dead_letter.dead_headers(delivery, message, reason, error)
        self.memory.dead_letters.put(headers, delivery.data)
        log.error("Message %s is dead: %s (%s).", message or delivery.key, reason, error)
        dead_letter.tell(self, message, reason, error)
        self.memory.end(delivery)

    def stop_intakes(self) -> None:
        """Take no more messages at all."""
        self.memory.shut()

    def give_back_held(self, *, started: bool) -> None:
        """Return what is held: only the unstarted, or (started=True) everything."""
        for delivery in self.memory.held():
            if started or not delivery.started:
                self.memory.give_back(delivery, 0)


class StubConsumer(JetStreamConsumer):
    """Dramatiq's view of a queue in memory; ack, nack and requeue are those of the real one."""

    def __init__(self, broker: JetStreamStubBroker, spec: QueueSpec, capacity: int, timeout_ms: int) -> None:
        self._broker: JetStreamStubBroker = broker
        self._spec, self._capacity = spec, capacity
        self._timeout_seconds = timeout_ms / 1000

    def __next__(self) -> JetStreamMessage | None:
        delivery = self._broker.memory.take(self._spec, self._capacity, self._timeout_seconds)
        return None if delivery is None else self._broker.admit_stored(delivery)

    def close(self) -> None:
        """Take no more messages of this queue."""
        self._broker.memory.shut(self._spec.name)
