"""The port between services and the status stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from app.events.types import StatusEvent


class StatusPublisher(Protocol):
    """Tells listeners; a failure to tell is logged and never fails the work."""

    def publish(self, event: StatusEvent) -> None:
        """Best effort."""
        ...


class StatusFeed(Protocol):
    """Follows the status stream: one subscription per process, fanned out."""

    def listen(
        self,
        matches: Callable[[StatusEvent], bool],
        *,
        after_sequence: int | None = None,
        heartbeat_seconds: float = 15.0,
    ) -> Iterator[StatusEvent | None]:
        """Yield matching events as they come, and None every `heartbeat_seconds` of silence."""
        ...
