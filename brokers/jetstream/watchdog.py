"""Ends a process whose job hangs in native code and holds the interpreter's lock past its time limit.

No Python code can do that: none runs. The standard library's faulthandler has a timer thread in C; it
is set ahead again and again by the event loop, which cannot do so while the lock is held. The last
thing that the process writes is the traceback of all its threads; its message comes back as a suspect.
"""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections.abc import Callable, Iterable

from brokers.jetstream.message import Delivery

_TICK_SECONDS = 1.0
_STDERR = 2  # the file descriptor: sys.stderr may be anything


async def watch(
    held: Callable[[], Iterable[Delivery]], longest_seconds: Callable[[], float], grace_seconds: float
) -> None:
    """Keep the timer ahead of every time limit; in the loop, for ever.

    A job that begins after this tick may be the last thing that this loop lets happen, so the timer
    allows for the longest limit of any actor (`longest_seconds`), counted from now.
    """
    try:
        while True:
            now = time.monotonic()
            running = [d.beat_until - now for d in held() if d.began and d.beat_until < float("inf")]
            left = max(longest_seconds(), *running, 0.0)
            faulthandler.dump_traceback_later(left + grace_seconds, exit=True, file=_STDERR)
            await asyncio.sleep(_TICK_SECONDS)
    finally:
        faulthandler.cancel_dump_traceback_later()
