"""Numbers that a server must be asked for: when somebody scrapes, now and then, and never for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_LOG = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
_PATIENCE_SECONDS = 2.0  # a scrape waits no longer; what comes later is in the next one


class Sampler:
    """Calls `sample` in a thread of its own, at most every `every_seconds`; `forget` where that fails."""

    def __init__(
        self,
        sample: Callable[[], None],
        forget: Callable[[], None],
        *,
        every_seconds: float = EVERY_SECONDS,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._sample, self._forget = sample, forget
        self._every_seconds, self._patience_seconds = every_seconds, patience_seconds
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._thread: threading.Thread | None = None

    def refresh(self) -> None:
        """Have numbers that are not older than `every_seconds`, unless the server is slow."""
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if not running and time.monotonic() - self._began >= self._every_seconds:
                self._began = time.monotonic()
                self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(self._patience_seconds)

    def _run(self) -> None:
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 - whatever it is, a scrape must go on
            _LOG.warning("no numbers from a server: %s", error)
            self._forget()
