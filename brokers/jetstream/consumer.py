"""From the stream to Dramatiq's worker threads: arrivals, triage, and the end of each message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dramatiq.broker import Consumer, MessageProxy
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session
from brokers.jetstream.heartbeat import NAK, Holdings
from brokers.jetstream.message import Delivery, JetStreamMessage
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.pull import Pull
from brokers.jetstream.rescue import patrol

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_LOOP_SECONDS = 10.0  # a loop that is later than this is stuck, not busy


def nak(after_seconds: float = 0) -> bytes:
    """The answer that gives a message back, to be delivered again after a pause."""
    return NAK + b" " + json.dumps({"delay": int(after_seconds * 1e9)}).encode() if after_seconds else NAK


class Intake:
    """The messages of one queue on their way into this process; outlives Dramatiq's consumers."""

    def __init__(self, spec: QueueSpec, session: Session, holdings: Holdings) -> None:
        self.spec = spec
        self.capacity = 1
        # Filled in the loop, emptied by a consumer thread or greenlet. No lock is shared by the
        # two: under gevent a contended one would stop the loop, and with it the heartbeats.
        self._arrivals: deque[Delivery | JetStreamMessage] = deque()
        self._something = asyncio.Event()
        self._session, self._holdings = session, holdings
        self._pull: Pull | None = None
        self._patrol: asyncio.Task[None] | None = None
        self._patrol_seconds = session.options.patrol_seconds
        holdings.on_settled.append(self._settled)

    def start(self, capacity: int) -> None:
        """Begin to pull, holding at most `capacity` messages. In the loop."""
        self.capacity = capacity
        if self._pull is None:
            self._pull = Pull(
                self._session,
                self.spec.stream,
                self.spec.name,
                room=self._room,
                on_message=self._arrived,
            )
            self._pull.start()
            self._patrol = self._session.spawn(patrol(self._session, self.spec, self._patrol_seconds))

    async def stop(self) -> None:
        """Take no more messages; what still arrives goes straight back. In the loop."""
        pull, self._pull = self._pull, None
        if self._patrol is not None:
            self._patrol.cancel()
        if pull is not None:
            await pull.stop()
        while self._arrivals:
            item = self._arrivals.popleft()
            self._holdings.settle(item.delivery if isinstance(item, JetStreamMessage) else item, nak())

    def _room(self) -> int:
        return max(0, self.capacity - self._holdings.count(self.spec.name))

    def _arrived(self, msg: Msg) -> None:
        delivery = Delivery.of(self.spec, msg)
        if not self._holdings.take(delivery):
            return
        if self._pull is None:
            self._holdings.settle(delivery, nak())
        else:
            self.put(delivery)

    def put(self, item: Delivery | JetStreamMessage) -> None:
        """Add an arrival, or a message whose turn has come. In the loop."""
        self._arrivals.append(item)
        self._something.set()

    def pop(self) -> Delivery | JetStreamMessage | None:
        """The oldest arrival, from any thread."""
        try:
            return self._arrivals.popleft()
        except IndexError:
            return None

    async def wait(self, timeout_seconds: float) -> None:
        """Until there is an arrival or the time is over. In the loop."""
        if not self._arrivals:
            self._something.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._something.wait(), timeout_seconds)

    def _settled(self, delivery: Delivery) -> None:
        if self._pull is not None and delivery.spec.name == self.spec.name:
            self._pull.wake()


class JetStreamConsumer(Consumer):
    """Dramatiq's view of an intake. ack and nack may be called from any worker thread."""

    def __init__(self, broker: JetStreamBroker, intake: Intake, timeout_ms: int) -> None:
        self._broker = broker
        self._intake = intake
        self._timeout_seconds = timeout_ms / 1000

    def __next__(self) -> JetStreamMessage | None:
        item = self._intake.pop()
        if item is None:
            limit = self._timeout_seconds + _LOOP_SECONDS
            self._broker.connection.run(self._intake.wait(self._timeout_seconds), timeout_seconds=limit)
            item = self._intake.pop()
        if item is None:
            return None
        if isinstance(item, JetStreamMessage):
            return item  # a suspect whose turn has come
        return self._broker.admit(self._intake, item)

    def ack(self, message: MessageProxy) -> None:
        """End a message, unless something that must follow it could not be stored."""
        assert isinstance(message, JetStreamMessage)
        if message.hand_back_seconds is not None:
            self._broker.give_back(message, message.hand_back_seconds)
        else:
            self._broker.finish(message)

    def nack(self, message: MessageProxy) -> None:
        """Write a dead letter, then end the message; ConnectionFailed makes Dramatiq call again."""
        assert isinstance(message, JetStreamMessage)
        if message.hand_back_seconds is not None:
            self._broker.give_back(message, message.hand_back_seconds)
        else:
            self._broker.bury(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give unstarted messages back at once."""
        for message in messages:
            assert isinstance(message, JetStreamMessage)
            self._broker.give_back(message, 0)

    def close(self) -> None:
        """Stop taking messages; what was taken and not started goes back."""
        self._broker.stop_intake(self._intake)
