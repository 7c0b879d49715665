"""From the stream to Dramatiq's worker threads: arrivals, triage, and the end of each message."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session
from brokers.jetstream.heartbeat import Holdings, nak
from brokers.jetstream.loop import Bell
from brokers.jetstream.loop import bell as make_bell
from brokers.jetstream.message import Delivery, JetStreamMessage
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.places import LONGEST_WAIT_SECONDS, Places
from brokers.jetstream.presence import Presence
from brokers.jetstream.pull import Pull
from brokers.jetstream.rescue import Patrol

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_OFF_SECONDS = 1.0  # most of what kills or hangs a process does so at once


class Intake:
    """The messages of one queue on their way into this process; outlives Dramatiq's consumers."""

    def __init__(self, spec: QueueSpec, session: Session, holdings: Holdings) -> None:
        self.spec = spec
        self.places = Places(session.options)
        # Filled in the loop, emptied by a consumer thread or greenlet. No lock is shared by the
        # two: under gevent a contended one would stop the loop, and with it the heartbeats.
        self._arrivals: deque[Delivery | JetStreamMessage] = deque()
        self._ring: Callable[[], None] | None = None  # set while the consumer sleeps
        self._session, self._holdings = session, holdings
        self._pull: Pull | None = None
        self._presence: Presence | None = None
        self._watches: list[asyncio.Task[None]] = []
        self._off_until = 0.0
        holdings.on_settled.append(self._settled)

    def start(self, threads: int, *, share: bool) -> None:
        """Begin to pull for so many threads; `share` what no thread starts soon. In the loop."""
        self.places.threads = threads
        if self._pull is None:
            self._pull = Pull(
                self._session,
                self.spec.stream,
                self.spec.name,
                wanted=self._wanted,
                on_message=self._arrived,
            )
            self._pull.start()
            withdraw = self._pull.withdraw
            self._presence = Presence(self._session, self.spec, self._held, withdraw, threads)
            if self._holdings.lifeline is not None:
                self._holdings.lifeline.listen_on(self._presence.subject)
            watches = [self._presence.show(), Patrol(self._session, self.spec, self._presence).run()]
            watches += [self._share()] if share else []
            self._watches = [self._session.spawn(watch) for watch in watches]

    async def stop(self) -> None:
        """Take no more messages; what still arrives goes straight back. In the loop."""
        pull, self._pull = self._pull, None
        for watch in self._watches:
            watch.cancel()
        if pull is not None:
            await pull.stop()
        if self._presence is not None:
            await self._presence.leave()
        while self._arrivals:
            item = self._arrivals.popleft()
            self._holdings.settle(item.delivery if isinstance(item, JetStreamMessage) else item, nak())

    async def hold_off(self) -> None:
        """Take nothing while a suspect has just begun: a process that hangs still gets what it asked for."""
        self._off_until = time.monotonic() + _OFF_SECONDS
        if self._pull is not None:
            asyncio.get_running_loop().call_later(_OFF_SECONDS, self._pull.wake)
            if self._pull.is_open:
                await self._pull.withdraw()

    def _held(self) -> list[int]:
        held = self._holdings.held.values()
        return [d.sequence for d in held if d.spec.name == self.spec.name and not d.lost]

    def _wanted(self, outstanding: int) -> int:
        if self._off_until and self._holdings.suspects and time.monotonic() < self._off_until:
            return 0
        taken = self._holdings.count(self.spec.name) + outstanding
        return self.places.wanted(taken, self._holdings.running_elsewhere(self.spec.name))

    def _arrived(self, msg: Msg) -> None:
        delivery = Delivery.of(self.spec, msg)
        is_new = self._holdings.take(delivery)
        if self._pull is not None:
            if is_new:
                self.put(delivery)
            else:
                self._pull.wake()  # it occupies no place
        elif is_new:
            self._holdings.settle(delivery, nak())

    def put(self, item: Delivery | JetStreamMessage) -> None:
        """Add an arrival, or a message whose turn has come. In the loop."""
        self._arrivals.append(item)
        ring, self._ring = self._ring, None
        if ring is not None:
            ring()

    def pop(self, bell: Bell, timeout_seconds: float) -> Delivery | JetStreamMessage | None:
        """The oldest arrival, or None when none came within the time. From one consumer thread."""
        item = self._pop_now()
        if item is None:
            self._ring = bell.ring
            item = self._pop_now()  # it may have come before the bell was set
            if item is None:
                bell.wait(timeout_seconds)
                item = self._pop_now()
        return item

    def _pop_now(self) -> Delivery | JetStreamMessage | None:
        try:
            return self._arrivals.popleft()
        except IndexError:
            return None

    def _settled(self, delivery: Delivery) -> None:
        if delivery.began and delivery.spec.name == self.spec.name:
            self.places.note_run(time.monotonic() - delivery.began)
        if self._pull is not None:
            self._pull.wake()

    async def _share(self) -> None:
        """Give back what has waited here for long: another worker may have a free thread."""
        while True:
            await asyncio.sleep(LONGEST_WAIT_SECONDS / 2)
            try:
                await self._give_surplus_back()
            except Exception:  # or one hiccup would leave others without work for good
                log.exception("Sharing the messages of %s failed; it goes on.", self.spec.name)

    async def _give_surplus_back(self) -> None:
        surplus = self.places.surplus(self._waiting_since(time.monotonic() - LONGEST_WAIT_SECONDS))
        if surplus and self._pull is not None:
            log.info("Gave %d waiting messages of %s back for others.", len(surplus), self.spec.name)
            await self._pull.withdraw()
        for delivery in surplus:
            if delivery.claim():
                self._holdings.settle(delivery, nak())

    def _waiting_since(self, moment: float) -> list[Delivery]:
        held, parked = self._holdings.held.values(), self._holdings.parked
        mine = [d for d in held if d.spec.name == self.spec.name and d not in parked]
        return [d for d in mine if not d.began and d.arrived < moment]


class JetStreamConsumer(Consumer):
    """Dramatiq's view of an intake. ack and nack may be called from any worker thread."""

    def __init__(self, broker: JetStreamBroker, intake: Intake, timeout_ms: int) -> None:
        self._broker = broker
        self._intake = intake
        self._timeout_seconds = timeout_ms / 1000
        self._bell = make_bell()

    def __next__(self) -> JetStreamMessage | None:
        item = self._intake.pop(self._bell, self._timeout_seconds)
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
        """Write a dead letter, then end the message; ConnectionFailed makes Dramatiq call again.

        Any other error would leave the message in our hands with nobody to look after it.
        """
        assert isinstance(message, JetStreamMessage)
        if message.hand_back_seconds is not None:
            self._broker.give_back(message, message.hand_back_seconds)
            return
        try:
            self._broker.bury(message)
        except BrokerConnectionError:
            raise
        except Exception:
            log.exception("The dead letter of %s could not be written; it comes again.", message)
            self._broker.give_back(message, self._broker.options.hand_back_seconds)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give unstarted messages back at once."""
        for message in messages:
            assert isinstance(message, JetStreamMessage)
            self._broker.give_back(message, 0)

    def close(self) -> None:
        """Stop taking messages; what was taken and not started goes back."""
        self._broker.stop_intake(self._intake)
