"""The status stream, both ways: workers publish, web processes follow it once and fan out to listeners."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from weakref import WeakSet

from dramatiq.errors import BrokerError

from app.events.inbox import Inbox
from app.events.types import EVERYTHING, Connected, Reset, StatusEvent, Told, events_of
from brokers import (
    EventPage,
    EventSubscription,
    JetStreamBroker,
    publish_event,
    read_events,
    subscribe_events,
)

logger = logging.getLogger(__name__)

# Yields what is to be told, returns the sequence of the last event that was looked at.
_Reading = Generator[Told | None, None, int]

_BEGIN_SECONDS = 2.0  # how long a listener waits for this process to follow the stream at all


class StatusBus:
    """Implements StatusPublisher and StatusFeed; follows the stream from the first listener on.

    A listener that comes back reads what it missed from the stream itself, page by page in its own
    thread, and joins the others where that ends. So nothing is remembered here but what listeners
    have yet to read.
    """

    def __init__(self, broker: JetStreamBroker) -> None:
        self._broker = broker
        self._lock = threading.Lock()  # of the inboxes and what was heard; the broker's thread takes it, too
        self._starting = threading.Lock()
        # Weak: whoever holds the iterator listens, and nobody has to sign off.
        self._inboxes: WeakSet[Inbox] = WeakSet()
        self._subscription: EventSubscription | None = None
        self._following = threading.Event()
        self._heard = 0  # the sequence of the newest event that was handed out

    def publish(self, event: StatusEvent) -> None:
        """See StatusPublisher."""
        publish_event(self._broker, event.subject, event.encode())

    def listen(
        self,
        owner_id: str,
        matches: Callable[[StatusEvent], bool],
        *,
        after_sequence: int | None = None,
        heartbeat_seconds: float = 15.0,
    ) -> Iterator[Told | None]:
        """See StatusFeed."""
        self._follow()
        self._following.wait(_BEGIN_SECONDS)
        inbox = Inbox(owner_id, matches)
        # Not in the generator: who listens must miss nothing from now on, read or not.
        joined = self._join(inbox) if after_sequence is None else None
        return self._tell(inbox, joined, after_sequence, heartbeat_seconds)

    @property
    def listener_count(self) -> int:
        """Listeners of this process that hear what is new."""
        return len(self._inboxes)

    def close(self) -> None:
        """Stop following."""
        with self._starting:
            if self._subscription is not None:
                self._subscription.close()
                self._subscription = None

    # In a listener's thread

    def _join(self, inbox: Inbox) -> int | None:
        """Let it hear what is new; after which sequence that is, None while the stream is away."""
        with self._lock:
            self._inboxes.add(inbox)
            return self._heard if self._following.is_set() else None

    def _tell(
        self, inbox: Inbox, joined: int | None, after: int | None, heartbeat_seconds: float
    ) -> Iterator[Told | None]:
        yield Connected(joined)
        last = joined or 0
        if after is not None:
            last = yield from self._catch_up(inbox, after, heartbeat_seconds)
        while True:
            told = inbox.take(heartbeat_seconds)
            if isinstance(told, StatusEvent) and _sequence(told) <= last:
                continue  # read from the stream before
            if told is not None:
                last = _sequence(told)
            yield told

    def _catch_up(self, inbox: Inbox, after: int, heartbeat_seconds: float) -> _Reading:
        """Yield what the stream holds after a sequence, and let the inbox hear what is new.

        What is stored around the moment in which it joins is in the inbox, in the stream, or in both:
        so the stream is read once more after that.
        """
        while not self._following.wait(heartbeat_seconds):
            yield None
        after = yield from self._read_on(inbox, after, heartbeat_seconds)
        self._join(inbox)
        return (yield from self._read_on(inbox, after, heartbeat_seconds))

    def _read_on(self, inbox: Inbox, after: int, heartbeat_seconds: float) -> _Reading:
        page: EventPage | None = None
        while page is None or not page.complete:
            page = self._read(inbox.owner_id, after)
            if page is None:
                time.sleep(heartbeat_seconds)
                yield None
            elif page.misses_after(after):
                after = page.last
                yield Reset(after, "the stream does not hold what came after the given position")
            else:
                events = (_decode(*event) for event in page.events)
                yield from (event for event in events if event is not None and inbox.wants(event))
                after = page.events[-1][0] if page.events else after
        return after

    def _read(self, owner_id: str, after: int) -> EventPage | None:
        try:
            return read_events(self._broker, events_of(owner_id), after)
        except BrokerError as error:
            logger.info("Events after %d are read later: %s", after, error)
            return None

    # In the broker's thread

    def _follow(self) -> None:
        with self._starting:
            if self._subscription is None:
                self._subscription = subscribe_events(
                    self._broker, EVERYTHING, self._receive, on_start=self._begin
                )

    def _begin(self, sequence: int) -> None:
        with self._lock:
            self._reset(sequence)
            self._following.set()

    def _receive(self, sequence: int, subject: str, data: bytes) -> None:
        event = _decode(sequence, subject, data)
        with self._lock:
            if sequence != self._heard + 1:  # the stream forgot some before we could hear them
                self._reset(sequence - 1)
            self._heard = sequence
            if event is not None:
                for inbox in self._inboxes:
                    inbox.offer(event, sequence)

    def _reset(self, sequence: int) -> None:
        self._heard = sequence
        for inbox in self._inboxes:
            inbox.reset(Reset(sequence, "the stream was interrupted"))


def _decode(sequence: int, subject: str, data: bytes) -> StatusEvent | None:
    try:
        return StatusEvent.decode(data, sequence)
    except (ValueError, TypeError) as error:
        logger.warning("skipped a foreign message on %s: %s", subject, error)
        return None


def _sequence(told: StatusEvent | Reset) -> int:
    assert told.sequence is not None, "what was decoded came from the stream"
    return told.sequence
