"""A thread that does what it is asked for, and does at once what it was asked for many times meanwhile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

_END_SECONDS = 5.0


class Beside:
    """Calls `act` with what it is asked for, in a thread that starts here; safe to ask from any thread."""

    def __init__(self, act: Callable[[str], None]) -> None:
        self._act = act
        self._asked: set[str] = set()
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="beside", daemon=True)
        self._thread.start()

    def ask(self, what: str) -> None:
        """Have it done soon, after this call: what is being done just now does not count."""
        with self._changed:
            self._asked.add(what)
            self._changed.notify()

    def end(self) -> None:
        """Do what was asked for, and no more; returns when that is done, or takes long."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while (what := self._next()) is not None:
            try:
                self._act(what)
            except Exception:  # whatever it is, the next one may go well
                logger.exception("%s: failed", what)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._ended)
            return self._asked.pop() if self._asked else None
