"""The event-loop thread of a process, and how threads and greenlets wait for work done in it.

The thread is a real one, also under gevent, where `threading`, `selectors` and `socket` are not what
they seem: everything here uses the originals, and a greenlet is woken through gevent's own thread-safe
signal. Its locks, shared between threads, can lose a wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_SECONDS = 5.0


@functools.cache  # asked for several times per message; what was there before gevent stays what it is
def original(module: str, name: str) -> Any:
    """`module.name` as it was before gevent replaced it, if gevent is there at all."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def threads_are_greenlets() -> bool:
    """True when gevent has replaced the threads of this process."""
    monkey = sys.modules.get("gevent.monkey")
    return bool(monkey is not None and monkey.is_module_patched("threading"))


class _ThreadBell:
    """A binary semaphore made of the original lock: the cheapest thing that one thread can wait for."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = original("_thread", "allocate_lock")()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the waiter go on, now or when it comes; ringing twice is ringing once."""
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """True when it rang within the time."""
        return bool(self._lock.acquire(timeout=max(0.0, seconds)))

    def close(self) -> None:
        """Nothing to give back."""


class _GreenletBell:
    """The same for a greenlet: gevent's own thread-safe signal wakes it in its hub."""

    def __init__(self) -> None:
        self._rang = importlib.import_module("gevent.event").Event()
        self._signal = importlib.import_module("gevent").get_hub().loop.async_()
        self._signal.start(self._rang.set)

    def ring(self) -> None:
        """Let the waiter go on, now or when it comes."""
        self._signal.send()

    def wait(self, seconds: float) -> bool:
        """True when it rang within the time."""
        rang = bool(self._rang.wait(seconds))
        self._rang.clear()
        return rang

    def close(self) -> None:
        """Give the signal back; only when nobody can ring any more."""
        self._signal.close()


Bell = _ThreadBell | _GreenletBell


def bell() -> Bell:
    """What the calling thread or greenlet can wait for while the loop thread works."""
    return _GreenletBell() if threads_are_greenlets() else _ThreadBell()


class _Loop(asyncio.SelectorEventLoop):
    """An asyncio loop that looks up names in a real thread; asyncio's own executor may be greenlets."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        found: asyncio.Future[Any] = self.create_future()

        def settle(addresses: Any, error: OSError | None) -> None:
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(addresses)

        def look_up() -> None:
            addresses, failure = None, None
            try:
                addresses = original("socket", "getaddrinfo")(host, port, **options)
            except OSError as error:
                failure = error
            self.call_soon_threadsafe(settle, addresses, failure)

        original("_thread", "start_new_thread")(look_up, ())
        return await found


class LoopThread:
    """An asyncio loop in an OS thread of its own, so that a busy greenlet or job cannot starve it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = _Loop(original("selectors", "DefaultSelector")())
        self._ident: int | None = None
        original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        self._ident = original("_thread", "get_ident")()
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def is_current(self) -> bool:
        """True in code that runs inside the loop."""
        return bool(self._ident == original("_thread", "get_ident")())

    def run(self, work: Coroutine[Any, Any, T], limit_seconds: float) -> T:
        """Run a coroutine in the loop and wait for it; raises TimeoutError."""
        finished = bell()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self.loop.create_task(work))
            tasks[0].add_done_callback(lambda _: finished.ring())

        def cancel() -> None:
            tasks[0].cancel()

        self.loop.call_soon_threadsafe(begin)
        if not finished.wait(limit_seconds):
            self.loop.call_soon_threadsafe(cancel)
            if not finished.wait(_CANCEL_SECONDS):
                raise TimeoutError  # the loop is stuck; it may still ring, so the bell stays open
        finished.close()
        try:
            return tasks[0].result()
        except asyncio.CancelledError:
            raise TimeoutError from None
