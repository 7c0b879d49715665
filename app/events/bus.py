"""The status stream, both ways: workers publish, web processes follow it once and fan out to listeners."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from weakref import WeakSet

from app.events.types import StatusEvent
from brokers import EventSubscription, JetStreamBroker, publish_event, subscribe_events

logger = logging.getLogger(__name__)

_SUBJECT = "transforms.status.>"
_REMEMBERED = 5_000  # events kept for listeners that resume
_REPLAYED = timedelta(minutes=5)  # how far back a fresh process fills its memory
_LISTENER_ROOM = 1_000  # events that a slow listener may lag behind before it misses some


class StatusBus:
    """Implements StatusPublisher and StatusFeed; starts following on the first listener."""

    def __init__(self, broker: JetStreamBroker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._recent: deque[StatusEvent] = deque(maxlen=_REMEMBERED)
        # Weak: a listener that is never read, or dropped, does not stay.
        self._listeners: WeakSet[queue.SimpleQueue[StatusEvent]] = WeakSet()
        self._subscription: EventSubscription | None = None

    def publish(self, event: StatusEvent) -> None:
        """See StatusPublisher."""
        publish_event(self._broker, event.subject, event.encode())

    def listen(
        self,
        matches: Callable[[StatusEvent], bool],
        *,
        after_sequence: int | None = None,
        heartbeat_seconds: float = 15.0,
    ) -> Iterator[StatusEvent | None]:
        """See StatusFeed. Events before `after_sequence` that are forgotten by now are not sent again."""
        inbox: queue.SimpleQueue[StatusEvent] = queue.SimpleQueue()
        with self._lock:
            self._follow()
            missed = [event for event in self._recent if _is_after(event, after_sequence)]
            self._listeners.add(inbox)
        return self._tell(inbox, missed, matches, heartbeat_seconds)

    def _tell(
        self,
        inbox: queue.SimpleQueue[StatusEvent],
        missed: list[StatusEvent],
        matches: Callable[[StatusEvent], bool],
        heartbeat_seconds: float,
    ) -> Iterator[StatusEvent | None]:
        try:
            yield from (event for event in missed if matches(event))
            spoke = time.monotonic()
            while True:
                event = _next(inbox, heartbeat_seconds)
                if event is not None and not matches(event):
                    event = None
                    if time.monotonic() - spoke < heartbeat_seconds:
                        continue  # the talk of others is no reason to break our silence early
                spoke = time.monotonic()
                yield event
        finally:
            with self._lock:
                self._listeners.discard(inbox)

    @property
    def listener_count(self) -> int:
        """Open listeners of this process."""
        return len(self._listeners)

    def close(self) -> None:
        """Stop following."""
        with self._lock:
            if self._subscription is not None:
                self._subscription.close()
                self._subscription = None

    def _follow(self) -> None:
        if self._subscription is None:
            self._subscription = subscribe_events(
                self._broker, _SUBJECT, self._receive, start_time=datetime.now(UTC) - _REPLAYED
            )

    def _receive(self, sequence: int, subject: str, data: bytes) -> None:
        try:
            event = StatusEvent.decode(data, sequence)
        except (ValueError, TypeError) as error:
            logger.warning("skipped a foreign message on %s: %s", subject, error)
            return
        with self._lock:
            self._recent.append(event)
            for inbox in self._listeners:
                if inbox.qsize() < _LISTENER_ROOM:
                    inbox.put(event)


def _is_after(event: StatusEvent, sequence: int | None) -> bool:
    return sequence is not None and event.sequence is not None and event.sequence > sequence


def _next(inbox: queue.SimpleQueue[StatusEvent], timeout_seconds: float) -> StatusEvent | None:
    try:
        return inbox.get(timeout=timeout_seconds)
    except queue.Empty:
        return None
