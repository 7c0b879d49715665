"""What the workers and producers of the fault tests run: one actor, and a broker that writes the history."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.middleware import CurrentMessage, Middleware

from brokers import BrokerOptions, JetStreamBroker, default_middleware
from tests.integration.broker.faults.history import NONE, History, Kind
from tests.integration.broker.workers import QUEUES, make_options

_numbers = itertools.count()


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name, default)  # noqa: TID251 (set by processes.py)


@cache
def history() -> History:
    return History(Path(setting("TEST_HISTORY")))


class RecordingConsumer(Consumer):
    """Passes everything through, and writes down what was handed out."""

    def __init__(self, inner: Consumer) -> None:
        self.inner = inner

    def __next__(self) -> MessageProxy | None:
        message = next(self.inner)
        if message is not None:
            take = f"{os.getpid()}.{next(_numbers)}"
            message.take = take  # type: ignore[attr-defined]  # ours, for the Recorder
            history().write(Kind.TAKEN, message.message_id, take)
        return message

    def ack(self, message: MessageProxy) -> None:
        self.inner.ack(message)

    def nack(self, message: MessageProxy) -> None:
        self.inner.nack(message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        self.inner.requeue(messages)

    def close(self) -> None:
        self.inner.close()


class RecordingBroker(JetStreamBroker):
    """The real broker; the broken ones are subclasses of this."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> Any:
        return RecordingConsumer(super().consume(queue_name, prefetch, timeout))


class Recorder(Middleware):
    """Last in the list: nearest to the run on both sides."""

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        history().write(Kind.BOOT)

    def before_process_message(self, broker: Any, message: Any) -> None:
        history().write(Kind.START, message.message_id, getattr(message, "take", NONE))

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        kind = Kind.END if exception is None else Kind.FAILED
        history().write(kind, message.message_id, getattr(message, "take", NONE), repr(exception or ""))

    def after_dead_letter(self, broker: Any, message: Any, reason: Any, error: Any) -> None:
        history().write(Kind.DEAD, message.message_id if message is not None else NONE, detail=reason)


def job(seconds: float = 0, failures: int = 0) -> None:
    """Takes its time, and fails in as many attempts as it is told."""
    time.sleep(seconds)
    current = CurrentMessage.get_current_message()
    if current is not None and current.options.get("retries", 0) < failures:
        raise RuntimeError("told to fail")


def make_broker(kind: type[JetStreamBroker], options: BrokerOptions) -> JetStreamBroker:
    """A broker of a kind that knows the actor and writes the history."""
    broker = kind(options, QUEUES, middleware=[*default_middleware(options), CurrentMessage(), Recorder()])
    dramatiq.actor(broker=broker, queue_name="quick", time_limit=60_000)(job)
    return broker


def chosen_broker() -> JetStreamBroker:
    """The broker that this process was started with: the real one, or one of broken.py."""
    from tests.integration.broker.faults import broken

    kind = broken.VARIANTS.get(setting("TEST_BROKEN"), RecordingBroker)
    options = make_options(setting("TEST_NATS_URL"), patrol_seconds=2.0, connect_timeout_seconds=1.0)
    return make_broker(kind, options)


def set_up() -> None:
    dramatiq.set_broker(chosen_broker())
