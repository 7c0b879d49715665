"""Actors for the workers that the tests start; each line of the history says what happened."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from brokers import JetStreamBroker, default_middleware
from tests.integration.broker.workers import QUEUES, make_options


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name, default)  # noqa: TID251 (set by workers.py)


class RefusedError(Exception):
    pass


class CancelledError(Exception):
    pass


def write(*words: object) -> None:
    line = " ".join(map(str, words)) + f" {os.getpid()} {time.time():.3f}\n"
    with Path(setting("TEST_HISTORY")).open("a") as history:
        history.write(line)


class Teller(Middleware):
    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        write("boot")

    def after_dead_letter(self, broker: Any, message: Any, reason: Any, error: Any) -> None:
        write("dead", reason, message.args[0] if message is not None and message.args else "-")


def work(name: str, seconds: float = 0) -> None:
    write("start", name)
    time.sleep(seconds)
    write("end", name)


def hold(name: str) -> None:
    """Until a file of that name lies beside the history."""
    write("start", name)
    while not Path(setting("TEST_HISTORY")).with_name(name).exists():
        time.sleep(0.02)
    write("end", name)


def spin(name: str, seconds: float) -> None:
    write("start", name)
    end = time.monotonic() + seconds
    while time.monotonic() < end:  # never yields: under gevent nothing else of this process runs
        pass
    write("end", name)


def fail(name: str, until: int) -> None:
    attempt = 1 + sum(1 for line in _history() if line[:2] == ["try", name])
    write("try", name)
    if attempt < until:
        raise RuntimeError(f"{name} fails in attempt {attempt}: ümlaut\nand a second line")
    write("end", name)


def _history() -> list[list[str]]:
    return [line.split() for line in Path(setting("TEST_HISTORY")).read_text().splitlines()]


def refuse(name: str) -> None:
    write("try", name)
    raise RefusedError(name)


def cancel(name: str) -> None:
    write("try", name)
    raise CancelledError(name)


def poison(name: str) -> None:
    write("start", name)
    time.sleep(0.1)
    os._exit(9)


def declare(broker: JetStreamBroker) -> None:
    options: dict[str, Any] = {
        "queue_name": "quick",
        "broker": broker,
        "throws": (RefusedError,),
        "no_dead_letter": (CancelledError,),
        "time_limit": 60_000,
    }
    for function in (work, hold, spin, fail, refuse, cancel, poison):
        dramatiq.actor(function, **options)
    dramatiq.actor(work, **{**options, "queue_name": "other", "actor_name": "work_other"})


def set_up() -> None:
    prefetch = int(setting("TEST_PREFETCH", "0")) or None
    options = make_options(setting("TEST_NATS_URL"), prefetch=prefetch)
    broker = JetStreamBroker(options, QUEUES, middleware=[*default_middleware(options), Teller()])
    declare(broker)
    dramatiq.set_broker(broker)
