"""The event-loop thread of a process, and how threads and greenlets wait for work done in it.

The thread is a real one, also under gevent, where `threading`, `selectors` and `socket` are not what
they seem: everything here uses the originals, and a greenlet is woken through gevent's own thread-safe
signal. Its locks, shared between threads, can lose a wake-up.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_CANCEL_SECONDS = 5.0


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
        if threads_are_greenlets():
            return self._run_for_greenlet(work, limit_seconds)
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(limit_seconds)
        except TimeoutError:
            future.cancel()
            raise

    def _run_for_greenlet(self, work: Coroutine[Any, Any, T], limit_seconds: float) -> T:
        finished = importlib.import_module("gevent.event").Event()
        signal = importlib.import_module("gevent").get_hub().loop.async_()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self.loop.create_task(work))
            tasks[0].add_done_callback(lambda _: signal.send())

        def cancel() -> None:
            tasks[0].cancel()

        signal.start(finished.set)
        self.loop.call_soon_threadsafe(begin)
        if not finished.wait(limit_seconds):
            self.loop.call_soon_threadsafe(cancel)
            if not finished.wait(_CANCEL_SECONDS):
                raise TimeoutError  # the loop is stuck; it may still use the signal, which stays open
        signal.close()
        try:
            return tasks[0].result()
        except asyncio.CancelledError:
            raise TimeoutError from None
