"""The stub twin: a JetStreamBroker without a server, for unit tests of senders, actors and operators."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable

from dramatiq.errors import QueueJoinTimeout
from dramatiq.middleware import Middleware

from brokers.jetstream import unique
from brokers.jetstream.broker import JetStreamBroker
from brokers.jetstream.consumer import JetStreamConsumer
from brokers.jetstream.errors import TRY_LATER
from brokers.jetstream.heartbeat import NAK, nak
from brokers.jetstream.memory import Memory
from brokers.jetstream.memory_session import MemoryConnection
from brokers.jetstream.message import Delivery, JetStreamMessage
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.publisher import Part
from brokers.jetstream.topology import ready_subject
from brokers.jetstream.triage import triage

log = logging.getLogger(__name__)


class JetStreamStubBroker(JetStreamBroker):
    """A JetStreamBroker whose streams lie in memory; same arguments, middleware, messages and dead letters.

    `advance(seconds)` puts its clock forward, so that delays, retries, recurring schedules, pauses and
    ages need no waiting. While `away` is True, every operation raises Dramatiq's ConnectionFailed as it
    does when the server is gone. `publish_raw` stores any bytes. `control`, `dead_letter`, `inspect`,
    `recurring` and events work on it as on a server; there is nothing to apply.

    It knows one process: there are no deaths of workers, so no redelivery after ack_wait and no crash
    loops. Its clock is the server's: what Dramatiq does itself (AgeLimit, TimeLimit) goes by real time.
    Not for processes that gevent has patched.
    """

    def __init__(
        self,
        options: BrokerOptions,
        queues: Iterable[QueueSpec],
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(options, queues, middleware)
        self.memory = Memory(options, self.specs.values())
        # Whatever hangs in a unit test is not for us to kill.
        self.connection = MemoryConnection(dataclasses.replace(options, hung_grace_seconds=None), self.memory)

    @property
    def away(self) -> bool:
        """Whether the server is to seem gone."""
        return self.memory.away

    @away.setter
    def away(self, away: bool) -> None:
        self.memory.away = away

    @property
    def clock_ahead_ms(self) -> float:
        """How far its clock was put forward."""
        return self.memory.clock.ahead_seconds * 1000

    def advance(self, seconds: float) -> None:
        """Put the broker's clock forward; what is due by then is handed out at once.

        A recurring schedule sends one message for each of its times that lies on the way.
        """
        self.memory.advance(seconds)

    def publish_raw(self, queue_name: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Store bytes as a stranger would; raises QueueNotFound."""
        subject = ready_subject(self.options, self.spec(queue_name).name)
        self.memory.publish([Part(subject, payload, headers or {})])

    # Dramatiq's interface

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> StubConsumer:
        """Take messages of a queue, holding at most one per worker thread (or options.prefetch)."""
        spec = self.spec(queue_name)
        capacity = self.options.prefetch or min(prefetch, self.worker_threads or prefetch)
        self.memory.open(queue_name)
        return StubConsumer(self, spec, capacity, timeout)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Wait until a queue is empty; raises QueueJoinTimeout after `timeout` milliseconds."""
        seconds = None if timeout is None else timeout / 1000
        if not self.memory.wait_empty(self.spec(queue_name).name, seconds):
            raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's

    def close(self) -> None:
        """Hand out nothing more. What is stored stays, as it would on a server."""
        self.memory.shut()
        super().close()

    # What the consumer and the lifecycle need

    def admit_stored(self, delivery: Delivery) -> JetStreamMessage | None:
        """The message to run, or None when it was dealt with otherwise."""
        try:
            return triage(self, self.running(), delivery)
        except Exception as error:
            log.warning("Message %s is looked at again later: %s", delivery, error, exc_info=True)
            self.memory.give_back(delivery, self.options.hand_back_seconds)
            return None

    def begun(self, delivery: Delivery) -> None:
        """Nobody shares the twin's threads: there is nothing to count."""

    def set_aside(self, delivery: Delivery) -> None:
        """Nor are there any places."""

    def settle(self, delivery: Delivery, answer: bytes) -> None:
        """End our hold on a delivery, at once."""
        if answer.startswith(NAK):
            pause = json.loads(answer.removeprefix(NAK) or b"{}")
            self.memory.give_back(delivery, pause.get("delay", 0) / 1e9)
        else:
            self.memory.end(delivery)

    async def _release_and_settle(self, message: JetStreamMessage, answer: bytes) -> None:
        try:
            await unique.release(self.running().session, message.delivery.spec, message)
        except TRY_LATER as error:
            log.warning("Message %s is not ended: %s", message.delivery, error)
            answer = nak(self.options.hand_back_seconds)
        self.settle(message.delivery, answer)

    def stop_intakes(self) -> None:
        """Take no more messages at all."""
        self.memory.shut()

    def give_back_held(self, *, started: bool) -> None:
        """Return what is held: only the unstarted, or (started=True) everything."""
        for delivery in self.memory.held():
            if delivery.claim() or started:
                self._give_back(delivery, 0)


class StubConsumer(JetStreamConsumer):
    """Dramatiq's view of a queue in memory; ack, nack and requeue are those of the real one."""

    def __init__(self, broker: JetStreamStubBroker, spec: QueueSpec, capacity: int, timeout_ms: int) -> None:
        self._broker: JetStreamStubBroker = broker
        self._queue, self._capacity = spec.name, capacity
        self._timeout_seconds = timeout_ms / 1000

    def __next__(self) -> JetStreamMessage | None:
        delivery = self._broker.memory.take(self._queue, self._capacity, self._timeout_seconds)
        return None if delivery is None else self._broker.admit_stored(delivery)

    def close(self) -> None:
        """Take no more messages of this queue."""
        self._broker.memory.shut(self._queue)
