"""How long an outbound call may last, and how it is stopped before."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import httpcore

_STEP_SECONDS = 0.5


class StoppedError(Exception):
    """Nobody wants the answer any more."""


class Deadline(threading.local):
    """When the request that this thread is making must be over."""

    at: float | None = None
    stopped: threading.Event | None = None

    def start(self, seconds: float, stopped: threading.Event | None = None) -> None:
        """From now on; `stopped` ends it before, from any thread."""
        self.at, self.stopped = time.monotonic() + seconds, stopped

    def stop(self) -> None:
        """The request is over."""
        self.at = self.stopped = None

    def remaining(self) -> float | None:
        """Seconds left, None outside a request. Raises httpcore.ReadTimeout, StoppedError."""
        if self.at is None:
            return None
        if self.stopped is not None and self.stopped.is_set():
            raise StoppedError("it was stopped")
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline passed")
        return left

    def cap(self, timeout: float | None) -> float | None:
        """At most what is left."""
        left = self.remaining()
        if left is None or timeout is None:
            return left if timeout is None else timeout
        return min(left, timeout)

    def step(self, timeout: float | None) -> float | None:
        """As `cap`, and within a request short: only between steps it is seen to be stopped.

        That is by `stopped`, or by an exception that another thread raises in this one: Python delivers it
        no sooner than the wait for the socket returns.
        """
        capped = self.cap(timeout)
        return capped if self.at is None or capped is None else min(capped, _STEP_SECONDS)


class TimedStream(httpcore.NetworkStream):
    """A connection whose every step also ends at the request's deadline: one byte a minute cannot hold us."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at most `max_bytes`."""
        while True:
            try:
                return self._stream.read(max_bytes, self._deadline.step(timeout))
            except httpcore.ReadTimeout:
                if self._deadline.remaining() is None:  # raises where that was the end, and not a step
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        self._stream.write(buffer, self._deadline.cap(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection under TLS."""
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.cap(timeout))
        return TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What lies below, as httpcore asks for it."""
        return self._stream.get_extra_info(info)
