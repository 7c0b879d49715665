"""What this process holds, and what keeps it ours: in-progress acks, from the loop's thread.

Everything here runs inside the event loop. A held message, started or only prefetched, is renewed
at a third of its ack_wait until it is settled or its actor's time limit has passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from brokers.jetstream.answers import Answers
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY
from brokers.jetstream.lifeline import Lifeline
from brokers.jetstream.message import Delivery

log = logging.getLogger(__name__)

ACK, NAK, IN_PROGRESS = b"+ACK", b"-NAK", b"+WPI"
_TICK_SECONDS = 1.0
_MOMENT_SECONDS = 0.002  # to wake the loop and the server for each of many short jobs costs more than these
_TRIED_SECONDS, _PAUSE_SECONDS = 60.0, 2.0  # how long what must come first is tried, and how often
_FINISHED_KEPT = 10_000


def nak(after_seconds: float = 0) -> bytes:
    """The answer that gives a message back, to be delivered again after a pause."""
    return NAK + b" " + json.dumps({"delay": int(after_seconds * 1e9)}).encode() if after_seconds else NAK


class Holdings:
    """The deliveries in this process's hands, and the ones that just left them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.held: dict[tuple[str, int, int], Delivery] = {}
        self.parked: set[Delivery] = set()  # held, but occupying no place (waiting suspects)
        self.answers = Answers(session)
        self.lifeline: Lifeline | None = None  # what keeps our messages while this process is frozen
        self.on_settled: list[Callable[[Delivery], None]] = []
        self._places: Counter[str] = Counter()
        self._ended: deque[tuple[Delivery, bytes]] = deque()
        self._woken = False
        self._next_look: asyncio.TimerHandle | None = None
        self._first: set[asyncio.Task[bool]] = set()
        self._begun: deque[Delivery] = deque()  # filled by worker threads, emptied in the loop
        self._running: Counter[str] = Counter()
        self._suspects = 0
        self._finished: OrderedDict[tuple[str, int, int], None] = OrderedDict()
        self._tick = _TICK_SECONDS
        session.on_connect.append(self._renew_all)
        session.spawn(self._beat())

    def take(self, delivery: Delivery) -> bool:
        """True for a message that is new to us.

        One that we still hold only gets its new reply subject; one that we finished a moment ago
        (its ack was lost) is acknowledged again and not run again.
        """
        if delivery.key in self._finished:
            self.answers.put(delivery, ACK)
            return False
        ours = self.held.get(delivery.key)
        if ours is not None:
            ours.reply, ours.deliveries = delivery.reply, delivery.deliveries
            ours.beat_due, ours.ours_until = delivery.beat_due, delivery.ours_until
            return False
        self.held[delivery.key] = delivery
        self._places[delivery.spec.name] += 1
        self._tick = min(self._tick, delivery.spec.heartbeat_seconds / 4)
        return True

    def settle_soon(self, delivery: Delivery, answer: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """`settle` from any thread: at once, or with all others of the moment when one has just been."""
        self._ended.append((delivery, answer))
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._settle_ended)

    def _settle_ended(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        self._woken = False  # first: what ends from here on wakes the loop, or is found below
        if not self._ended:
            return
        while self._ended:
            self.settle(*self._ended.popleft())
        self._woken = True
        self._next_look = asyncio.get_running_loop().call_later(_MOMENT_SECONDS, self._settle_ended)

    def settle(self, delivery: Delivery, answer: bytes) -> None:
        """End our hold with an answer to the server (+ACK, +TERM, -NAK), confirmed in the background."""
        if delivery.settled:
            return
        given_back = answer.startswith(NAK)
        answerable = not (given_back and delivery.lost)  # or it would be taken from who has it by now
        self._let_go(delivery)
        if not given_back:
            self._finished[delivery.key] = None
            while len(self._finished) > _FINISHED_KEPT:
                self._finished.popitem(last=False)
        if answerable:
            self.answers.put(delivery, answer)
        for callback in self.on_settled:
            callback(delivery)

    def _let_go(self, delivery: Delivery) -> None:
        self._count_begun()
        delivery.settled = True
        if self.lifeline is not None:
            self.lifeline.release(delivery)
        if delivery.running:
            self._running[delivery.spec.name] -= 1
            self._suspects -= delivery.redelivered
        if self.held.pop(delivery.key, None) is not None:
            self._places[delivery.spec.name] -= 1
        self.parked.discard(delivery)

    async def settle_after(
        self, work: Callable[[], Awaitable[None]], delivery: Delivery, answer: bytes
    ) -> None:
        """Settle when `work` is done, trying it for a while; then let the message come again instead."""
        task = self._session.spawn(self._tried(work, delivery))
        self._first.add(task)
        try:
            self.settle(delivery, answer if await task else nak(self._session.options.hand_back_seconds))
        finally:
            self._first.discard(task)

    async def _tried(self, work: Callable[[], Awaitable[None]], delivery: Delivery) -> bool:
        deadline = time.monotonic() + _TRIED_SECONDS
        while True:
            try:
                await work()
            except Exception:
                log.warning("Message %s is not ended yet, what comes first failed.", delivery, exc_info=True)
                if time.monotonic() > deadline:
                    return False
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return True

    def begun(self, delivery: Delivery) -> None:
        """A thread starts this message now. From any thread."""
        if self.lifeline is not None:
            self.lifeline.hold(delivery)
        self._begun.append(delivery)

    def running_elsewhere(self, queue: str) -> int:
        """Threads of this process that are busy with messages of other queues."""
        self._count_begun()
        return sum(self._running.values()) - self._running[queue]

    @property
    def suspects(self) -> int:
        """Messages that run now and were delivered before: one of them may take this process down."""
        self._count_begun()
        return self._suspects

    def _count_begun(self) -> None:
        while self._begun:
            delivery = self._begun.popleft()
            if not delivery.settled:
                delivery.running = True
                self._running[delivery.spec.name] += 1
                self._suspects += delivery.redelivered

    def count(self, queue: str) -> int:
        """Messages of a queue that occupy a place."""
        parked = sum(d.spec.name == queue for d in tuple(self.parked)) if self.parked else 0
        return self._places[queue] - parked

    async def confirmed(self, timeout_seconds: float) -> None:
        """Wait until the server has confirmed every answer; raises TimeoutError when the time is over."""
        if self._first:
            await asyncio.wait(self._first, timeout=timeout_seconds)
            await asyncio.sleep(0)
        self._settle_ended()
        await self.answers.confirmed(timeout_seconds)

    def _renew_all(self) -> None:
        for delivery in self.held.values():
            delivery.beat_due = 0.0

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            now = time.monotonic()
            due = [d for d in self.held.values() if d.beat_due <= now]
            try:
                await self._renew(due)
            except Exception:  # without heartbeats every job of this process would be run twice
                log.exception("Heartbeats failed; they go on.")

    async def _renew(self, due: list[Delivery]) -> None:
        client: Any = await self._session.connected() if due else None
        now = time.monotonic()
        for delivery in due:
            if delivery.lost:  # kept now, it would be begun here although it may run elsewhere
                log.warning("Message %s was not renewed in time and is left to others.", delivery)
                delivery.beat_due = float("inf")
                continue
            if now > delivery.beat_until:
                log.warning("Message %s outlived its time limit: no more heartbeats.", delivery)
                delivery.beat_due = float("inf")
                continue
            try:
                await client.publish(delivery.reply, IN_PROGRESS)
            except AWAY:
                return  # all of them are renewed at the reconnection
            delivery.beat_due = now + delivery.spec.heartbeat_seconds
            delivery.ours_until = now + delivery.spec.ack_wait_seconds
            self._session.options.tell("in-progress", delivery.spec.name)
