"""Jobs that take their worker down, or that no worker can run; and healthy ones beside them."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import Interrupt

from brokers import JetStreamBroker, default_middleware
from tests.integration.broker.actors import Teller, setting, work, write
from tests.integration.broker.workers import QUEUES, make_options


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


def grow(name: str) -> None:
    """Its retry is larger than the server takes."""
    write("start", name)
    raise RuntimeError(name)


def nobody_knows(name: str) -> None:
    """Declared once the cause is mended only: until then a release lacks it."""
    raise AssertionError(name)


def is_mended() -> bool:
    """Whether a test has put the causes right: what is harmful is harmless then."""
    return Path(setting("TEST_HISTORY")).with_name("mended").exists()


def _until_mended(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def run(name: str, *rest: Any) -> None:
        if not is_mended():
            function(name, *rest)
        else:
            write("end", name)

    return run


def declare(broker: JetStreamBroker, queue: str = "quick") -> None:
    functions = [leave, segfault, memory_bomb, hold_the_lock, deep_recursion, grow, work]
    for function in functions + [nobody_knows] * is_mended():
        decorate: Any = dramatiq.actor(queue_name=queue, broker=broker, time_limit=2000)
        decorate(_until_mended(function))


def set_up() -> None:
    options = make_options(setting("TEST_NATS_URL"), hung_grace_seconds=1.0)
    broker = JetStreamBroker(options, QUEUES, middleware=[*default_middleware(options), Teller()])
    declare(broker)
    dramatiq.set_broker(broker)
