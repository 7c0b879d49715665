"""What the stub twin has instead of a server: streams, queues and a clock in this process's memory.

It keeps the server's rules that a test can notice: an id is stored once within the duplicate window,
expected sequences, batches, schedules, ages, pauses, redeliveries before fresh messages, and no more
than max_ack_pending in flight. It never runs out of patience with a holder (no ack_wait).
"""

from __future__ import annotations

import functools
import heapq
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import nats.errors
import nats.js.errors

from brokers.jetstream.browse import Stored
from brokers.jetstream.errors import DUPLICATE_IN_BATCH
from brokers.jetstream.memory_events import EventLog
from brokers.jetstream.memory_schedule import next_due
from brokers.jetstream.memory_stream import Stream, check_batch
from brokers.jetstream.message import Delivery
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.publisher import Part
from brokers.jetstream.topology import ready_subject, scheduled_subjects, stream_configs

_INVALID_PATTERN = 10189
_ONCE = "@at "
_MARKER = "Nats-Marker-Reason"
_FOR_THE_SERVER = ("Nats-Expected-", "Nats-Batch-")


class Clock:
    """Real time that a test can put forward."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time() + self.ahead_seconds

    def advance(self, seconds: float) -> None:
        """Put the clock forward; it never goes back."""
        if seconds < 0:
            raise ValueError(f"a clock goes forward only, not by {seconds!r} seconds")
        self.ahead_seconds += seconds


@dataclass(eq=False)
class Lane:
    """Where the ready messages of one queue are: each in one of fresh, again, resting and held."""

    spec: QueueSpec
    stream: Stream
    subject: str
    is_open: bool = False
    paused_until: float = 0.0
    fresh: deque[int] = field(default_factory=deque)
    again: deque[int] = field(default_factory=deque)
    resting: set[int] = field(default_factory=set)
    held: dict[int, Delivery] = field(default_factory=dict)
    deliveries: Counter[int] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        """Handed out and not ended: the server counts what was given back, too."""
        return len(self.held) + len(self.resting) + len(self.again)

    def waiting(self, most_in_flight: int) -> deque[int]:
        """Redeliveries first: they have their place in max_ack_pending already."""
        return self.fresh if not self.again and self.in_flight < most_in_flight else self.again

    def forget(self, sequence: int) -> None:
        """The message is stored no longer."""
        self.deliveries.pop(sequence, None)
        if self.held.pop(sequence, None) is None and sequence not in self.resting:
            (self.again if sequence in self.again else self.fresh).remove(sequence)
        self.resting.discard(sequence)


class Memory:
    """The server of one stub twin. Every method may be called from any thread."""

    def __init__(self, options: BrokerOptions, specs: Iterable[QueueSpec]) -> None:
        queues = list(specs)
        self.options = options
        self.clock = Clock()
        self.events = EventLog(options)
        self.away = False
        self.listeners: list[Callable[[Part], None]] = []  # told of what was published
        self.streams = {str(config.name): Stream(config) for config in stream_configs(options, queues)}
        self.lanes = {
            spec.name: Lane(spec, self.streams[spec.stream], ready_subject(options, spec.name))
            for spec in queues
        }
        self._ready = {lane.subject: lane for lane in self.lanes.values()}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []  # a heap, by due time
        self._numbers = itertools.count()
        self.changed = threading.Condition()

    # Time

    def advance(self, seconds: float) -> None:
        """Put the clock forward; everything that is due by then happens now, in its order."""
        with self.changed:
            self.clock.advance(seconds)
            self.tick()

    def tick(self) -> float | None:
        """Let everything happen that is due; seconds until the next timer, None without one."""
        with self.changed:
            now = self.clock.now()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
                self.changed.notify_all()
            return self._timers[0][0] - now if self._timers else None

    def _at(self, due: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (due, next(self._numbers), action))

    # Storing

    def publish(self, parts: Sequence[Part]) -> int:
        """Store all parts in their order, or none; the last one's sequence.

        Raises what the server would say (nats.js.errors.APIError), NoRespondersError without a stream.
        """
        with self.changed:
            self.tick()
            now = self.clock.now()
            streams = [self._stream_of(part.subject) for part in parts]
            for part, stream in zip(parts, streams, strict=True):
                known = stream.known(part.headers.get("Nats-Msg-Id"), now)
                if known is not None and len(parts) == 1:
                    return known
                if known is not None:
                    description = "batch publish contains duplicate message id"
                    raise nats.js.errors.BadRequestError(400, description, DUPLICATE_IN_BATCH)
                stream.check(part.subject, part.headers)
                self._first_due(part, now)
            check_batch(parts)
            for part, stream in zip(parts, streams, strict=True):
                sequence = self._store(stream, part, now)
                self.tell(part)
            self.changed.notify_all()
            return sequence

    def tell(self, part: Part) -> None:
        """Let those who subscribed hear of a message, stored or not."""
        for listener in list(self.listeners):
            listener(part)

    def _stream_of(self, subject: str) -> Stream:
        for stream in self.streams.values():
            if stream.takes(subject):
                return stream
        raise nats.errors.NoRespondersError

    def _first_due(self, part: Part, now: float) -> float | None:
        """When a schedule fires first; an "@at" is the sender's time, and only ours was put forward."""
        pattern = part.headers.get("Nats-Schedule")
        if pattern is None:
            return None
        try:
            due = next_due(pattern, part.headers.get("Nats-Schedule-Time-Zone"), now)
        except (ValueError, KeyError) as error:
            description = "message schedules pattern is invalid"
            raise nats.js.errors.BadRequestError(400, description, _INVALID_PATTERN) from error
        return due + self.clock.ahead_seconds if pattern.startswith(_ONCE) else due

    def _store(self, stream: Stream, part: Part, now: float) -> int:
        for replaced in stream.replaces(part.subject, part.headers):
            self._remove(stream, replaced)
        headers = {n: value for n, value in part.headers.items() if not n.startswith(_FOR_THE_SERVER)}
        sequence = stream.store(part.subject, part.payload, headers, now).sequence
        lifetime = _lifetime(headers.get("Nats-TTL"), stream.config.max_age)
        if lifetime:
            self._at(now + lifetime, functools.partial(self._expire, stream, sequence))
        due = self._first_due(part, now)
        if due is not None:
            self._at(due, functools.partial(self._fire, stream, sequence, due))
        elif part.subject in self._ready:
            self._ready[part.subject].fresh.append(sequence)
        return sequence

    def _fire(self, stream: Stream, sequence: int, due: float) -> None:
        """Send what a schedule holds, and set its timer again if it recurs."""
        schedule = stream.get(sequence)
        if schedule is None:  # replaced or removed
            return
        headers = {n: value for n, value in schedule.headers.items() if not n.startswith("Nats-")}
        headers |= {"Nats-Scheduler": schedule.subject, "Nats-Schedule-Next": "purge"}
        if schedule.headers["Nats-Schedule"].startswith(_ONCE):
            self._remove(stream, sequence)
        else:
            zone = schedule.headers.get("Nats-Schedule-Time-Zone")
            following = next_due(schedule.headers["Nats-Schedule"], zone, due)
            headers["Nats-Schedule-Next"] = datetime.fromtimestamp(following, UTC).isoformat()
            self._at(following, functools.partial(self._fire, stream, sequence, following))
        target = schedule.headers["Nats-Schedule-Target"]
        self._store(stream, Part(target, schedule.payload or b"", headers), due)

    def _expire(self, stream: Stream, sequence: int) -> None:
        stored, now = self._remove(stream, sequence), self.clock.now()
        marker = stream.config.subject_delete_marker_ttl
        if stored is None or not marker or _MARKER in stored.headers or stream.last_on(stored.subject):
            return
        self._store(
            stream, Part(stored.subject, b"", {_MARKER: "MaxAge", "Nats-TTL": f"{int(marker)}s"}), now
        )

    def delete(self, stream: Stream, sequence: int) -> bool:
        """Forget one message; False when there is none."""
        with self.changed:
            self.tick()
            return self._remove(stream, sequence) is not None

    def purge(self, stream: Stream, pattern: str) -> int:
        """Forget all messages on the subjects that a pattern covers; how many."""
        with self.changed:
            self.tick()
            found = [stored.sequence for stored in stream.on(pattern)]
            for sequence in found:
                self._remove(stream, sequence)
            return len(found)

    def _remove(self, stream: Stream, sequence: int) -> Stored | None:
        stored = stream.remove(sequence)
        if stored is not None and stored.subject in self._ready:
            self._ready[stored.subject].forget(sequence)
        self.changed.notify_all()
        return stored

    # Handing out

    def open(self, queue: str) -> None:
        """Let messages of a queue be taken."""
        with self.changed:
            self.lanes[queue].is_open = True

    def shut(self, queue: str | None = None) -> None:
        """Hand out no more messages of a queue, or of all."""
        with self.changed:
            for lane in self.lanes.values() if queue is None else [self.lanes[queue]]:
                lane.is_open = False

    def pause(self, queue: str, until: float) -> None:
        """Hand out nothing of a queue before a moment of the clock; one in the past ends a pause."""
        with self.changed:
            self.lanes[queue].paused_until = until
            self._at(until, lambda: None)  # whoever waits looks again then
            self.changed.notify_all()

    def take(self, queue: str, capacity: int, timeout_seconds: float) -> Delivery | None:
        """The next message, or None when there is none in time or `capacity` are held already."""
        lane, deadline = self.lanes[queue], time.monotonic() + timeout_seconds
        with self.changed:
            while True:
                pause = self.tick()
                waiting = lane.waiting(self.options.max_ack_pending)
                may = lane.is_open and lane.paused_until <= self.clock.now() and len(lane.held) < capacity
                if waiting and may:
                    return self._hand_out(lane, waiting.popleft())
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left if pause is None else min(left, pause))

    def _hand_out(self, lane: Lane, sequence: int) -> Delivery:
        stored = lane.stream.get(sequence)
        assert stored is not None, "a lane forgets what its stream forgets"
        lane.deliveries[sequence] += 1
        lane.held[sequence] = delivery = Delivery(
            spec=lane.spec,
            reply="",
            sequence=sequence,
            deliveries=lane.deliveries[sequence],
            data=stored.payload or b"",
            headers=stored.headers,
            stored_at=round(stored.stored_at.timestamp() * 1e9),
            arrived=time.monotonic(),
        )
        return delivery

    def end(self, delivery: Delivery) -> None:
        """Forget a message for good."""
        with self.changed:
            if self._let_go(delivery):
                self._remove(self.lanes[delivery.spec.name].stream, delivery.sequence)

    def give_back(self, delivery: Delivery, after_seconds: float) -> None:
        """Return a message to its queue, to be taken again after a pause."""
        with self.changed:
            if not self._let_go(delivery):
                return
            lane = self.lanes[delivery.spec.name]
            del lane.held[delivery.sequence]
            lane.resting.add(delivery.sequence)
            self._at(
                self.clock.now() + after_seconds, functools.partial(self._rested, lane, delivery.sequence)
            )
            self.tick()

    def _rested(self, lane: Lane, sequence: int) -> None:
        if sequence in lane.resting:
            lane.resting.discard(sequence)
            lane.again.append(sequence)

    def _let_go(self, delivery: Delivery) -> bool:
        """False for a delivery that was settled before, or whose message is gone."""
        delivery.settled = True
        return self.lanes[delivery.spec.name].held.get(delivery.sequence) is delivery

    def held(self) -> list[Delivery]:
        """Everything that was handed out and not settled yet."""
        with self.changed:
            return [delivery for lane in self.lanes.values() for delivery in lane.held.values()]

    def wait_empty(self, queue: str, timeout_seconds: float | None) -> bool:
        """True once nothing of a queue is ready, scheduled or in flight; False when time is over first."""
        lane, scheduled = self.lanes[queue], scheduled_subjects(self.options, queue)
        with self.changed:
            return self.changed.wait_for(
                lambda: not lane.stream.counts(lane.subject) and not lane.stream.counts(scheduled),
                timeout_seconds,
            )


def _lifetime(ttl: str | None, max_age: float | None) -> float | None:
    """Seconds that a message is kept; None for ever."""
    if ttl == "never":
        return None
    return min(float(ttl.removesuffix("s")), max_age or float("inf")) if ttl else max_age
