"""What the stub broker has instead of a server: queues, dead letters and a clock in this process's memory.

It keeps the server's rules that a test can notice: an id is stored once within the duplicate window, a
second schedule of a message replaces the first, redeliveries come before fresh messages, and no more than
max_ack_pending messages are handed out. It never runs out of patience with a holder (no ack_wait) and
forgets nothing by age.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from brokers.jetstream.dead_letter import DeadLetter, _read
from brokers.jetstream.errors import DeadLetterNotFoundError
from brokers.jetstream.inspect import QueueDepth
from brokers.jetstream.memory_events import EventLog
from brokers.jetstream.message import Delivery
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.topology import dead_subject

_DUPLICATE_WINDOW_SECONDS = 120.0


class Clock:
    """Real time that a test can put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Put the clock forward; it never goes back."""
        if seconds < 0:
            raise ValueError(f"a clock goes forward only, not by {seconds!r} seconds")
        self._ahead += seconds


@dataclass(eq=False)
class _Stored:
    """One message of a stream. `replaces` names the schedule that it is, if it is one."""

    sequence: int
    data: bytes
    headers: dict[str, str]
    replaces: str | None = None
    deliveries: int = 0


@dataclass(eq=False)
class _Lane:
    """Where the messages of one queue are: each in one of fresh, again, scheduled, paused and held."""

    is_open: bool = False
    fresh: deque[_Stored] = field(default_factory=deque)
    again: deque[_Stored] = field(default_factory=deque)
    scheduled: dict[str, _Stored] = field(default_factory=dict)
    paused: dict[int, _Stored] = field(default_factory=dict)
    held: dict[int, tuple[Delivery, _Stored]] = field(default_factory=dict)
    timers: list[tuple[float, int, _Stored]] = field(default_factory=list)  # a heap, by due time

    def clear(self) -> None:
        for part in (self.fresh, self.again, self.scheduled, self.paused, self.held, self.timers):
            part.clear()

    @property
    def in_flight(self) -> int:
        """Handed out and not ended: the server counts what was given back, too."""
        return len(self.held) + len(self.paused) + len(self.again)

    @property
    def empty(self) -> bool:
        return not (self.fresh or self.scheduled or self.in_flight)


class Memory:
    """The queues of one stub broker. Every method may be called from any thread."""

    def __init__(self, options: BrokerOptions, specs: Iterable[QueueSpec]) -> None:
        self.clock = Clock()
        self.dead_letters = DeadLetterBox(options)
        self.events = EventLog(options)
        self._most_in_flight = options.max_ack_pending
        self._window = min(_DUPLICATE_WINDOW_SECONDS, options.queue_max_age_seconds)
        self._lanes = {spec.name: _Lane() for spec in specs}
        self._seen: dict[tuple[str, str], float] = {}
        self._sequences = itertools.count(1)
        self._changed = threading.Condition()

    def advance(self, seconds: float) -> None:
        """Put the clock forward; what is due by then can be taken at once."""
        with self._changed:
            self.clock.advance(seconds)
            self._changed.notify_all()

    def store(
        self, spec: QueueSpec, data: bytes, headers: dict[str, str], *, delay_seconds: float = 0
    ) -> None:
        """Keep a message, now or for later; one whose Nats-Msg-Id was stored a moment ago is dropped."""
        with self._changed:
            if self._is_duplicate(spec.stream, headers.get("Nats-Msg-Id")):
                return
            lane, stored = self._lanes[spec.name], _Stored(next(self._sequences), data, headers)
            if delay_seconds > 0:
                stored.replaces = headers["Dramatiq-Message-Id"]
                lane.scheduled[stored.replaces] = stored
                self._wake_at(lane, delay_seconds, stored)
            else:
                lane.fresh.append(stored)
            self._changed.notify_all()

    def _is_duplicate(self, stream: str, message_id: str | None) -> bool:
        now = self.clock.now()
        while self._seen and now - next(iter(self._seen.values())) >= self._window:
            del self._seen[next(iter(self._seen))]  # the oldest: the dict keeps the order of storing
        if message_id is None or (stream, message_id) in self._seen:
            return message_id is not None
        self._seen[stream, message_id] = now
        return False

    def _wake_at(self, lane: _Lane, delay_seconds: float, stored: _Stored) -> None:
        heapq.heappush(lane.timers, (self.clock.now() + delay_seconds, stored.sequence, stored))

    def _fire(self, lane: _Lane) -> float | None:
        """Make ready what is due; seconds until the next timer, None without one."""
        now = self.clock.now()
        while lane.timers and lane.timers[0][0] <= now:
            _, _, stored = heapq.heappop(lane.timers)
            if lane.scheduled.get(stored.replaces or "") is stored:
                del lane.scheduled[stored.replaces or ""]
                lane.fresh.append(_Stored(next(self._sequences), stored.data, stored.headers))
            elif lane.paused.pop(stored.sequence, None) is not None:
                lane.again.append(stored)
        return lane.timers[0][0] - now if lane.timers else None

    def open(self, queue: str) -> None:
        """Let messages of a queue be taken."""
        with self._changed:
            self._lanes[queue].is_open = True

    def shut(self, queue: str | None = None) -> None:
        """Hand out no more messages of a queue, or of all."""
        with self._changed:
            for lane in self._lanes.values() if queue is None else [self._lanes[queue]]:
                lane.is_open = False

    def take(self, spec: QueueSpec, capacity: int, timeout_seconds: float) -> Delivery | None:
        """The next message, or None when there is none in time or `capacity` are held already."""
        lane, deadline = self._lanes[spec.name], time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                pause = self._fire(lane)
                waiting = self._waiting(lane)
                if waiting and lane.is_open and len(lane.held) < capacity:
                    return self._hand_out(spec, lane, waiting.popleft())
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left if pause is None else min(left, pause))

    def _waiting(self, lane: _Lane) -> deque[_Stored]:
        """Redeliveries first: they have their place in max_ack_pending already."""
        return lane.fresh if not lane.again and lane.in_flight < self._most_in_flight else lane.again

    def _hand_out(self, spec: QueueSpec, lane: _Lane, stored: _Stored) -> Delivery:
        stored.deliveries += 1
        delivery = Delivery(
            spec=spec,
            reply="",
            sequence=stored.sequence,
            deliveries=stored.deliveries,
            data=stored.data,
            headers=stored.headers,
        )
        lane.held[stored.sequence] = (delivery, stored)
        return delivery

    def end(self, delivery: Delivery) -> None:
        """Forget a message for good."""
        with self._changed:
            self._let_go(delivery)

    def give_back(self, delivery: Delivery, after_seconds: float) -> None:
        """Return a message to its queue, to be taken again after a pause."""
        with self._changed:
            lane, stored = self._lanes[delivery.spec.name], self._let_go(delivery)
            if stored is not None and after_seconds > 0:
                lane.paused[stored.sequence] = stored
                self._wake_at(lane, after_seconds, stored)
            elif stored is not None:
                lane.again.append(stored)

    def _let_go(self, delivery: Delivery) -> _Stored | None:
        """What was held; None for a delivery that was settled before, or flushed."""
        delivery.settled = True
        held = self._lanes[delivery.spec.name].held
        ours, stored = held.get(delivery.sequence, (None, None))
        if ours is not delivery:
            return None
        del held[delivery.sequence]
        self._changed.notify_all()
        return stored

    def held(self) -> list[Delivery]:
        """Everything that was handed out and not settled yet."""
        with self._changed:
            return [delivery for lane in self._lanes.values() for delivery, _ in lane.held.values()]

    def flush(self, queue: str) -> None:
        """Drop all messages of a queue, in flight too."""
        with self._changed:
            self._lanes[queue].clear()
            self._changed.notify_all()

    def wait_empty(self, queue: str, timeout_seconds: float | None) -> bool:
        """True once nothing of a queue is ready, scheduled or in flight; False when time is over first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._lanes[queue].empty, timeout_seconds)

    def depth(self, spec: QueueSpec) -> QueueDepth:
        """The numbers that a server would give."""
        with self._changed:
            lane = self._lanes[spec.name]
            self._fire(lane)
            return QueueDepth(
                queue=spec.name,
                ready=len(lane.fresh),
                scheduled=len(lane.scheduled),
                in_flight=lane.in_flight,
                dead=self.dead_letters.count(spec.name),
            )


class DeadLetterBox:
    """Dead letters in memory, as headers and payload; the newest has the highest id."""

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._letters: dict[int, tuple[dict[str, str], bytes]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def put(self, headers: dict[str, str], payload: bytes) -> int:
        """Keep a dead letter; its id."""
        with self._lock:
            number = next(self._ids)
            self._letters[number] = (headers, payload)
            return number

    def newest(self, limit: int, queue: str | None, before: int | None) -> list[DeadLetter]:
        """Newest first, without payloads; `before` (an id) pages towards older ones."""
        with self._lock:
            numbers = [number for number in self._letters if before is None or number < before]
            letters = (self._letter(number, None) for number in reversed(numbers))
            return list(itertools.islice((one for one in letters if queue in (None, one.queue)), limit))

    def get(self, number: int) -> DeadLetter:
        """One dead letter with its payload; raises DeadLetterNotFoundError."""
        with self._lock:
            if number not in self._letters:
                raise DeadLetterNotFoundError(f"There is no dead letter {number}.")
            return self._letter(number, self._letters[number][1])

    def _letter(self, number: int, payload: bytes | None) -> DeadLetter:
        headers = self._letters[number][0]
        return _read(number, dead_subject(self._options, headers["Dead-Queue"]), headers, payload)

    def discard(self, number: int) -> None:
        """Remove a dead letter; one that is gone is no error."""
        with self._lock:
            self._letters.pop(number, None)

    def count(self, queue: str) -> int:
        """How many dead letters a queue has."""
        with self._lock:
            return sum(1 for headers, _ in self._letters.values() if headers["Dead-Queue"] == queue)
