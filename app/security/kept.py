"""A value that is read from elsewhere, kept for a while, and outlives a short absence of its source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from app.errors import ProviderUnavailableError

T = TypeVar("T")

# Whoever makes up key ids must not make us ask the provider at his pace; nor does one that is away answer
# sooner when every request waits for it.
LEAST_SECONDS_BETWEEN_READS = 10.0
_STALE_SECONDS = 3600.0


class Kept(Generic[T]):
    """Thread-safe. `read` is called on first use and when the value is older than `seconds`."""

    def __init__(self, read: Callable[[], T], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._read_at = self._tried_at = float("-inf")
        self._failure = ""

    def value(self) -> T:
        """The value, up to an hour late while its source is away; raises ProviderUnavailableError."""
        with self._lock:
            if self._age() > self._seconds:
                self._renew()
            return self._usable()

    def newer(self) -> T:
        """The value, read anew unless that was tried just now; raises ProviderUnavailableError."""
        with self._lock:
            self._renew()
            return self._usable()

    def _renew(self) -> None:
        now = time.monotonic()
        if now - self._tried_at < LEAST_SECONDS_BETWEEN_READS:
            return
        self._tried_at = now
        try:
            self._value, self._read_at = self._read(), now
        except ProviderUnavailableError as error:
            self._failure = error.message

    def _usable(self) -> T:
        if self._value is None or self._age() > self._seconds + _STALE_SECONDS:
            raise ProviderUnavailableError(self._failure)
        return self._value

    def _age(self) -> float:
        return time.monotonic() - self._read_at
