"""Dead letters on their way: written by a thread of their own, one after the other.

While the server takes none (their stream is gone, or full), a message to be buried is held and renewed here.
It occupies no thread and no place, so the healthy ones behind it run, and it is tried again until its letter
is stored.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from brokers.jetstream.message import DeadReason, Delivery, JetStreamMessage

log = logging.getLogger(__name__)

_MOMENT_SECONDS = 1.0  # that a caller waits for a letter to be written, which takes milliseconds


@dataclass(eq=False)
class Burial:
    """A message to be buried; `message` is None when it could not be decoded."""

    delivery: Delivery
    message: JetStreamMessage | None
    reason: DeadReason
    error: BaseException | None
    since: float = field(default_factory=time.monotonic)
    written: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"{self.message or self.delivery} ({self.reason})"


class Burials:
    """What one process has to bury. `write` raises while a letter cannot be stored."""

    def __init__(self, write: Callable[[Burial], None], pause_seconds: float) -> None:
        self._write, self._pause_seconds = write, pause_seconds
        self._lock = threading.Lock()
        self._open: deque[Burial] = deque()
        self._working = False  # its thread; it ends when nothing is left to do
        self._closed = threading.Event()

    def put(self, burial: Burial) -> bool:
        """Hand over, from any thread but the loop's; whether the letter is written when this returns.

        Waits a moment for it, unless others have waited for longer than that.
        """
        with self._lock:
            self._open.append(burial)
            stuck = burial.since - self._oldest().since > _MOMENT_SECONDS
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="dead-letters", daemon=True).start()
        return not stuck and burial.written.wait(_MOMENT_SECONDS)

    def _oldest(self) -> Burial:
        return min(self._open, key=lambda burial: burial.since)

    def close(self) -> None:
        """Try no more; what was not written stays with its original."""
        self._closed.set()

    def _work(self) -> None:
        while (burial := self._first()) is not None:
            if self._is_done(burial):
                with self._lock:
                    self._open.remove(burial)
                burial.written.set()
            else:
                self._closed.wait(self._pause_seconds)

    def _first(self) -> Burial | None:
        with self._lock:
            if not self._open or self._closed.is_set():
                self._working = False
                return None
            return self._open[0]

    def _is_done(self, burial: Burial) -> bool:
        """Written, or ours no more: given back at shutdown, say."""
        if burial.delivery.settled:
            return True
        try:
            self._write(burial)
        except Exception as error:  # noqa: BLE001 (told, and tried until it can be stored)
            self._put_off(error)
            return False
        return True

    def _put_off(self, error: Exception) -> None:
        """Let the next one be tried first: what is wrong may be wrong with this one only."""
        with self._lock:
            self._open.rotate(-1)
            waiting, oldest = len(self._open), self._oldest()
        log.warning(
            "%d messages wait to be buried, the oldest is %s; tried again every %g s: %s",
            *(waiting, oldest, self._pause_seconds, error),
        )
