"""What this process holds, and what keeps it ours: in-progress acks, from the loop's thread.

Everything here runs inside the event loop. A held message, started or only prefetched, is renewed
at a third of its ack_wait until it is settled or its actor's time limit has passed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY
from brokers.jetstream.message import Delivery

log = logging.getLogger(__name__)

ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"
_TICK_SECONDS = 1.0
_CONFIRM_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 5.0
_FINISHED_KEPT = 10_000


class Holdings:
    """The deliveries in this process's hands, and the ones that just left them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.held: dict[tuple[str, int], Delivery] = {}
        self._finished: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._unconfirmed: set[asyncio.Task[None]] = set()
        self._tick = _TICK_SECONDS
        self.on_settled: list[Callable[[Delivery], None]] = []
        session.on_connect.append(self._renew_all)
        session.spawn(self._beat())

    def take(self, delivery: Delivery) -> bool:
        """True for a message that is new to us.

        One that we still hold only gets its new reply subject; one that we finished a moment ago
        (its ack was lost) is acknowledged again and not run again.
        """
        if delivery.key in self._finished:
            self._send(delivery, ACK)
            return False
        ours = self.held.get(delivery.key)
        if ours is not None:
            ours.reply, ours.deliveries = delivery.reply, delivery.deliveries
            return False
        self.held[delivery.key] = delivery
        self._tick = min(self._tick, delivery.spec.heartbeat_seconds / 4)
        return True

    def settle(self, delivery: Delivery, answer: bytes) -> None:
        """End our hold with an answer to the server (+ACK, +TERM, -NAK), confirmed in the background."""
        if delivery.settled:
            return
        delivery.settled = True
        self.held.pop(delivery.key, None)
        if not answer.startswith(NAK):
            self._finished[delivery.key] = None
            while len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)
        self._send(delivery, answer)
        for callback in self.on_settled:
            callback(delivery)

    def count(self, queue: str) -> int:
        """Messages of a queue that occupy a place; parked suspects do not."""
        return sum(1 for d in self.held.values() if d.spec.name == queue and not d.parked)

    async def confirmed(self, timeout_seconds: float) -> None:
        """Wait until the server has confirmed every answer, or the time is over."""
        if self._unconfirmed:
            await asyncio.wait(self._unconfirmed, timeout=timeout_seconds)

    def _send(self, delivery: Delivery, answer: bytes) -> None:
        task = self._session.spawn(self._confirm(delivery, answer))
        self._unconfirmed.add(task)
        task.add_done_callback(self._unconfirmed.discard)

    async def _confirm(self, delivery: Delivery, answer: bytes) -> None:
        """Send until confirmed. After ack_wait the server gives the message away anyhow."""
        deadline = time.monotonic() + max(delivery.spec.ack_wait_seconds, 30.0)
        pause = 0.1
        while time.monotonic() < deadline:
            client = await self._session.connected()
            try:
                await client.request(delivery.reply, answer, _CONFIRM_SECONDS)
            except AWAY:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return
        log.warning("%s for message %s was never confirmed.", answer.decode(), delivery.key)

    def _renew_all(self) -> None:
        for delivery in self.held.values():
            delivery.beat_due = 0.0

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            now = time.monotonic()
            due = [d for d in self.held.values() if d.beat_due <= now]
            if due:
                await self._renew(due, now)

    async def _renew(self, due: list[Delivery], now: float) -> None:
        client: Any = await self._session.connected()
        for delivery in due:
            if now > delivery.beat_until:
                log.warning("Message %s outlived its time limit: no more heartbeats.", delivery.key)
                delivery.beat_due = float("inf")
                continue
            try:
                await client.publish(delivery.reply, IN_PROGRESS)
            except AWAY:
                return  # all of them are renewed at the reconnection
            delivery.beat_due = now + delivery.spec.heartbeat_seconds
