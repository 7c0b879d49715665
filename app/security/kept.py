"""A value that is read from elsewhere, kept for a while, and outlives a short absence of its source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from app.errors import TransientError

T = TypeVar("T")

# Whoever makes up key ids must not make us ask the provider at his pace.
LEAST_SECONDS_BETWEEN_READS = 10.0
_STALE_SECONDS = 3600.0


class Kept(Generic[T]):
    """Thread-safe; reads on first use and again when the value is older than `seconds`."""

    def __init__(self, read: Callable[[], T], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._read_at = 0.0

    def value(self) -> T:
        """The value; a stale one for up to an hour while its source is away. Raises what `read` raises."""
        with self._lock:
            if self._value is None or self._age() > self._seconds:
                self._renew()
            assert self._value is not None
            return self._value

    def newer(self) -> T:
        """The value, read anew unless that has just been done. Raises what `read` raises."""
        with self._lock:
            if self._value is None or self._age() > LEAST_SECONDS_BETWEEN_READS:
                self._value = self._read()
                self._read_at = time.monotonic()
            return self._value

    def _renew(self) -> None:
        try:
            self._value = self._read()
        except TransientError:
            if self._value is None or self._age() > _STALE_SECONDS:
                raise
            return
        self._read_at = time.monotonic()

    def _age(self) -> float:
        return time.monotonic() - self._read_at
