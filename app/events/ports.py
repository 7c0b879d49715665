"""The port between services and the status stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from app.events.types import StatusEvent, Told


class StatusPublisher(Protocol):
    """Tells listeners; a failure to tell is logged and never fails the work."""

    def publish(self, event: StatusEvent) -> None:
        """Best effort."""
        ...


class StatusFeed(Protocol):
    """Follows the status stream: one subscription per process, fanned out."""

    def listen(
        self,
        owner_id: str,
        matches: Callable[[StatusEvent], bool],
        *,
        after_sequence: int | None = None,
        heartbeat_seconds: float = 15.0,
    ) -> Iterator[Told | None]:
        """Yield Connected, then the owner's events that match, once each and in order.

        They are those from now on, or those after a sequence that the listener has heard. A Reset says
        that some may be missing. None comes after `heartbeat_seconds` of silence (a few more while NATS
        is away), and nothing is raised then. `matches` is called in other threads and must be quick.
        """
        ...
