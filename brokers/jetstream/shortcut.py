"""The short way for publishes: the calling thread asks the server itself, over a socket of the process.

Handing a publish to the event loop and waiting for it costs several switches between threads, more
than the server needs (docs/adr/0008). Threads that come while one is on its way wait for it; then one of
them sends what all of them want stored, with one write. The shortcut only ever hopes: whatever it cannot
do (TLS, other logins than those in the URL, a server that moved, an answer it does not expect) it leaves
to the publisher, which sends the same message with the same Nats-Msg-Id, so the server stores it once.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import ParseResult

from brokers.jetstream.line import Line, NoShortcutError, ShortcutError
from brokers.jetstream.loop import original, threads_are_greenlets
from brokers.jetstream.publisher import Part

log = logging.getLogger(__name__)

_SECONDS = 1.0  # at most; the rest of an enqueue's time is the publisher's
_PAUSE_SECONDS = 5.0  # before a server that was away or silent is asked again
_IDLE_SECONDS = 30.0  # the server asks idle connections for a sign of life every two minutes


class _Order:
    """What one caller wants stored. Its bell rings when that was tried, or when it `leads` a journey."""

    __slots__ = ("bell", "leads", "parts", "stored")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.stored = [False] * len(parts)
        self.leads = False
        self.bell = original("_thread", "allocate_lock")()
        self.bell.acquire()


class Shortcut:
    """The line of one process. Made anew after a fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._line: Line | None = None
        self._closes = 0
        self._lock = original("_thread", "allocate_lock")()  # never held while anybody waits for anything
        self._waiting: deque[_Order] = deque()
        # Until when the thread on its way is back; 0: none is. One that was killed by an exception from
        # outside (a time limit) never says so.
        self._back_by = 0.0
        self._closed_until: dict[str, float] = {}  # servers that are not asked before that moment

    def try_to_publish(self, server: ParseResult, parts: Sequence[Part], seconds: float) -> list[bool]:
        """Which messages are stored and confirmed; the others are the publisher's.

        Takes no longer than half of `seconds`, a second at most. Never raises.
        """
        now, order = time.monotonic(), _Order(parts)
        closed = now < self._closed_until.get(server.netloc, 0.0)
        if server.scheme != "nats" or closed or not all("Nats-Msg-Id" in part.headers for part in parts):
            return order.stored
        until = now + min(_SECONDS, seconds / 2)
        self._take_turn(order, now, until)
        if order.leads:
            self._lead(order, server, until)
        return order.stored

    def _take_turn(self, order: _Order, now: float, until: float) -> None:
        """Return when the order leads, was taken along by another thread, or waited for too long."""
        with self._lock:
            if now >= self._back_by:
                self._back_by, order.leads = until, True
                return
            if threads_are_greenlets():
                return  # one that waited here could stop the one that it waits for
            self._waiting.append(order)
        if not order.bell.acquire(timeout=max(0.0, until - time.monotonic())):
            with self._lock:
                if order in self._waiting:
                    self._waiting.remove(order)

    def _lead(self, own: _Order, server: ParseResult, until: float) -> None:
        with self._lock:
            orders = [own, *self._waiting]
            self._waiting.clear()
        parts = [part for order in orders for part in order.parts]
        stored = [False] * len(parts)
        try:
            self._publish(server, parts, stored, until)
        finally:
            outcomes = iter(stored)
            for order in orders:
                order.stored = [next(outcomes) for _ in order.parts]
            self._pass_on()
            for order in orders[1:]:
                order.bell.release()

    def _pass_on(self) -> None:
        """The next journey begins before those of this one come home: they would push in."""
        with self._lock:
            if not self._waiting:
                self._back_by = 0.0
                return
            heir = self._waiting.popleft()
            heir.leads, self._back_by = True, time.monotonic() + _SECONDS
        heir.bell.release()

    def _publish(self, server: ParseResult, parts: list[Part], stored: list[bool], until: float) -> None:
        closes, line, self._line = self._closes, self._line, None
        intact = False
        try:
            line = self._usable(line, server)
            line = line or Line(server, self._name, until)
            line.publish(parts, stored, until)
            intact = True
        except (OSError, ShortcutError, ValueError, IndexError) as error:
            log.debug("The short way is closed: %r", error)
            if line is None or isinstance(error, TimeoutError):
                self._close_to(server, error)
        finally:
            if intact and closes == self._closes:
                line, self._line = self._line, line
            if line is not None:
                line.close()

    def _usable(self, line: Line | None, server: ParseResult) -> Line | None:
        if line is None:
            return None
        if line.server.netloc == server.netloc and time.monotonic() - line.used_at < _IDLE_SECONDS:
            return line
        line.close()
        return None

    def _close_to(self, server: ParseResult, error: Exception) -> None:
        """Or every message would wait for what the last one waited for in vain."""
        pause = float("inf") if isinstance(error, NoShortcutError) else _PAUSE_SECONDS
        self._closed_until[server.netloc] = time.monotonic() + pause

    def close(self) -> None:
        """Hang up; a thread that is on its way at this moment does so when it is back."""
        self._closes += 1
        line, self._line = self._line, None
        if line is not None:
            line.close()
