"""Rate limits that all replicas share: a leaky bucket per key in Postgres, emptied by handfuls.

A bucket holds a minute's worth and leaks steadily: bursts are allowed, a steady excess is not. A process
takes a hundredth of it at once and spends that by itself, so that most requests cost no statement; what is
not spent after some seconds is lost to all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Interval, bindparam, text
from sqlalchemy.orm import Session

from app.errors import RateLimitedError, UnavailableError
from app.observability.security_metrics import rate_limited
from app.storage.postgres.session import Database

_LOG = logging.getLogger(__name__)

_WINDOW_SECONDS = 60.0
_HANDFULS = 100
_HELD_SECONDS = 5.0
_MOST_HELD = 10_000
_CLEAN_EVERY_SECONDS = 600.0

# One row per key: when the bucket will be empty. There is room while that lies within the window.
_TAKE = text(
    """
    INSERT INTO rate_limits AS kept (key, empty_at) VALUES (:key, clock_timestamp() + :taken)
    ON CONFLICT (key) DO UPDATE SET empty_at = greatest(kept.empty_at, clock_timestamp()) + :taken
    WHERE greatest(kept.empty_at, clock_timestamp()) + :taken <= clock_timestamp() + :window
    RETURNING TRUE
    """
).bindparams(bindparam("taken", type_=Interval()), bindparam("window", type_=Interval()))
_WAIT = text(
    "SELECT extract(epoch FROM empty_at + :taken - :window - clock_timestamp()) "
    "FROM rate_limits WHERE key = :key"
).bindparams(bindparam("taken", type_=Interval()), bindparam("window", type_=Interval()))
_CLEAN = text("DELETE FROM rate_limits WHERE empty_at < clock_timestamp()")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests per minute for `key`; 0 is no limit. `whose` is how the refusal names it."""

    key: str
    per_minute: int
    whose: str


@dataclass(slots=True)
class _Held:
    left: int
    until: float  # of a refusal: when asking again makes sense


@dataclass(slots=True)
class RateLimits:
    """Counts requests; thread-safe."""

    database: Database
    _held: OrderedDict[str, _Held] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cleaned: float = field(default_factory=time.monotonic)

    def count(self, limit: Limit) -> None:
        """One request more. Raises RateLimitedError, which says when there is room again.

        Where Postgres does not answer, nobody is refused: whatever needs it says so itself.
        """
        if not limit.per_minute:
            return
        with self._lock:
            held = self._spend(limit.key)
        if held is None:
            held = self._take(limit)
        if held.left < 0:
            rate_limited(limit.key.partition(":")[0])
            raise RateLimitedError(
                f"that is more than {limit.per_minute} requests per minute {limit.whose}",
                retry_after_seconds=max(1.0, held.until - time.monotonic()),
            )

    def _spend(self, key: str) -> _Held | None:
        """What is held for the key, less one; None where the bucket must be asked."""
        held = self._held.get(key)
        if held is None or time.monotonic() >= held.until or held.left == 0:
            return None
        if held.left > 0:
            held.left -= 1
        return held

    def _take(self, limit: Limit) -> _Held:
        handful = max(1, limit.per_minute // _HANDFULS)
        values = {
            "key": limit.key,
            "taken": timedelta(seconds=handful * _WINDOW_SECONDS / limit.per_minute),
            "window": timedelta(seconds=_WINDOW_SECONDS),
        }
        try:
            with self.database.transaction() as session:
                self._clean(session)
                wait = _wait_seconds(session, values)
        except UnavailableError as error:
            _LOG.warning("requests are not counted: %s", error)
            wait = None
        now = time.monotonic()
        held = _Held(handful - 1, now + _HELD_SECONDS) if wait is None else _Held(-1, now + wait)
        self._keep(limit.key, held)
        return held

    def _keep(self, key: str, held: _Held) -> None:
        with self._lock:
            self._held[key] = held
            self._held.move_to_end(key)
            if len(self._held) > _MOST_HELD:
                self._held.popitem(last=False)

    def _clean(self, session: Session) -> None:
        if time.monotonic() - self._cleaned > _CLEAN_EVERY_SECONDS:
            self._cleaned = time.monotonic()
            session.execute(_CLEAN)


def _wait_seconds(session: Session, values: dict[str, Any]) -> float | None:
    """None when there was room and it is taken; else how long until there will be."""
    if session.scalar(_TAKE, values):
        return None
    return float(session.scalar(_WAIT, values) or 0.0)
