"""Jobs that take their worker down, or that no worker can run; and healthy ones beside them."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import Interrupt
from dramatiq.results import Results

from brokers import JetStreamBroker, JetStreamResultBackend, default_middleware
from tests.integration.broker.actors import Teller, setting, work, write
from tests.integration.broker.workers import QUEUES, Workers, make_options, message

_MOST_BYTES = 600_000_000
MAX_PAYLOAD_BYTES = 131_072
_HEADER_BYTES = 400  # more than a message has, and less than an error adds to its retry


def leave(name: str) -> None:
    write("start", name)
    os._exit(9)


def segfault(name: str) -> None:
    write("start", name)
    ctypes.string_at(0)


def memory_bomb(name: str) -> None:
    """Eats memory until the test's out-of-memory killer sees it; deaf to its limit, as native code is."""
    write("start", name, os.getpid())
    eaten = []
    while True:
        # On busy cores the limit may come before the killer: wherever it comes, it must not end the job.
        with suppress(Interrupt):
            while True:
                eaten.append(b"x" * 10_000_000)
                time.sleep(0.01)


def hold_the_lock(name: str) -> None:
    """One native call of (about) for ever: no other thread of the process runs."""
    write("start", name)
    re.match(r"(a+)+$", "a" * 64 + "b")


def deep_recursion(name: str) -> None:
    """Past the end of the native stack, in native code that asks the interpreter's limit."""
    write("start", name)
    sys.setrecursionlimit(10**9)
    json.loads("[" * 1_000_000)


def grow(name: str, padding: str) -> None:
    """Its retry, which tells of the error, is larger than the server takes."""
    write("start", name, len(padding))
    raise RuntimeError(name)


def nobody_knows(name: str) -> None:
    """Declared once the cause is mended only: until then a release lacks it."""
    raise AssertionError(name)


def is_mended() -> bool:
    """Whether a test has put the causes right: what is harmful is harmless then."""
    return Path(setting("TEST_HISTORY")).with_name("mended").exists()


def _until_mended(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def run(name: str, *rest: Any) -> object:
        if not is_mended():
            return function(name, *rest)
        write("end", name)
        return None

    return run


def grown(queue: str) -> dramatiq.Message[Any]:
    """A message for `grow` that is just small enough for a server with MAX_PAYLOAD_BYTES."""
    spare = MAX_PAYLOAD_BYTES - _HEADER_BYTES - len(message("grow", "grow", "", queue=queue).encode())
    return message("grow", "grow", "x" * spare, queue=queue)


def unpicklable(name: str) -> object:
    write("start", name)
    return object()


def kill_the_greedy(workers: Workers) -> None:
    """What the kernel does to who takes more memory than there is."""
    for line in workers.lines():
        if line[:2] == ("start", "memory_bomb"):
            status = Path(f"/proc/{line[2]}/statm")
            if (
                status.exists()
                and int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > _MOST_BYTES
            ):
                os.kill(int(line[2]), signal.SIGKILL)


def declare(broker: JetStreamBroker, queue: str = "quick") -> None:
    results: Any = Results
    broker.add_middleware(results(backend=JetStreamResultBackend(broker)))
    # One without the limit would be given ten minutes, and a hung process is ended after the longest one.
    common: dict[str, Any] = {"queue_name": queue, "broker": broker, "time_limit": 2000}
    stored: Any = dramatiq.actor(store_results=True, **common)
    stored(_until_mended(unpicklable))
    functions: list[Any] = [leave, segfault, memory_bomb, hold_the_lock, deep_recursion, grow, work]
    for function in functions + [nobody_knows] * is_mended():
        decorate: Any = dramatiq.actor(**common)
        decorate(_until_mended(function))


def set_up() -> None:
    options = make_options(setting("TEST_NATS_URL"), hung_grace_seconds=1.0)
    broker = JetStreamBroker(options, QUEUES, middleware=[*default_middleware(options), Teller()])
    declare(broker)
    dramatiq.set_broker(broker)
