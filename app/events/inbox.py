"""What is on its way to one listener of this process."""

from __future__ import annotations

import queue
from collections.abc import Callable

from app.events.types import Reset, StatusEvent

_ROOM = 1_000  # events that a slow listener may lag behind


class Inbox:
    """The matching events that its listener has not read yet, in order, or the word that some are missing.

    `offer` and `reset` are called under the bus's lock, `take` in the listener's thread.
    """

    def __init__(self, owner_id: str, matches: Callable[[StatusEvent], bool]) -> None:
        self.owner_id = owner_id
        self._matches = matches
        self._waiting: queue.SimpleQueue[StatusEvent | Reset] = queue.SimpleQueue()

    def wants(self, event: StatusEvent) -> bool:
        """Whether the event is for this listener."""
        return event.owner_id == self.owner_id and self._matches(event)

    def offer(self, event: StatusEvent, sequence: int) -> None:
        """Put in an event that is wanted; without room for it, say so in place of all that waits."""
        if not self.wants(event):
            return
        if self._waiting.qsize() < _ROOM:
            self._waiting.put(event)
        else:
            self.reset(Reset(sequence, "this listener was too slow"))

    def reset(self, reset: Reset) -> None:
        """Replace what waits: whoever reads the truth again needs no hints about how it came to be."""
        while self.take(0) is not None:
            pass
        self._waiting.put(reset)

    def take(self, timeout_seconds: float) -> StatusEvent | Reset | None:
        """The next one, or None when none comes in time."""
        try:
            return self._waiting.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
