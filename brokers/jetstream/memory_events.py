"""The status stream of the stub broker: events in order, and who follows them, in this process's memory."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from brokers.jetstream.errors import connection_error
from brokers.jetstream.events import EventCallback, EventSubscription
from brokers.jetstream.options import BrokerOptions

log = logging.getLogger(__name__)

_Event = tuple[int, datetime, str, bytes]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is covered by a pattern with NATS's wildcards: * is one token, > the rest."""
    wanted, found = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        found = found[: len(wanted)] if len(found) > len(wanted) else []
    return len(wanted) == len(found) and all(w in ("*", f) for w, f in zip(wanted, found, strict=True))


class EventLog:
    """The newest events, as many as the status stream keeps. Usable from any thread."""

    def __init__(self, options: BrokerOptions) -> None:
        self._events: deque[_Event] = deque(maxlen=options.status_max_messages)
        self._ids: set[str] = set()
        self._sequences = itertools.count(1)
        self._followers: list[Follower] = []
        self._lock = threading.RLock()  # a follower may publish

    def publish(
        self, subject: str, payload: bytes, msg_id: str | None, *, confirm: bool = False, away: bool = False
    ) -> None:
        """Keep an event and tell its followers; an id that was there before is dropped.

        While the twin is `away`, an event is dropped, or refused (ConnectionFailed) if it is to be confirmed.
        """
        if away and confirm:
            raise connection_error(f"publishing on {subject}", None)
        if away:
            return
        with self._lock:
            if msg_id is not None and msg_id in self._ids:
                return
            self._ids |= {msg_id} if msg_id is not None else set()
            event = (next(self._sequences), datetime.now(UTC), subject, payload)
            self._events.append(event)
            for follower in list(self._followers):
                follower.tell(event)

    def follow(
        self, subject: str, callback: EventCallback, first: int | None, since: datetime | None
    ) -> EventSubscription:
        """Call back for new events, and for those that are kept from a sequence or time on."""
        follower = Follower(subject, callback, self._forget)
        with self._lock:
            for event in self._events:
                if (first is not None and event[0] >= first) or (since is not None and event[1] >= since):
                    follower.tell(event)
            self._followers.append(follower)
        return follower

    def _forget(self, follower: Follower) -> None:
        with self._lock:
            self._followers.remove(follower)


class Follower(EventSubscription):
    """A subscription without a server: its callback runs in the publisher's thread."""

    def __init__(self, subject: str, callback: EventCallback, forget: Callable[[Follower], None]) -> None:
        self._subject, self._callback = subject, callback
        self._closed = False
        self._forget = forget

    def tell(self, event: _Event) -> None:
        """Call back if the event's subject is ours."""
        sequence, _, subject, payload = event
        if self._closed or not matches(self._subject, subject):
            return
        try:
            self._callback(sequence, subject, payload)
        except Exception:
            log.exception("An event callback for %s failed.", self._subject)

    def close(self) -> None:
        """No callback starts after this. Never raises."""
        if not self._closed:
            self._closed = True
            self._forget(self)
