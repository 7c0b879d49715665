"""What the broker suite runs on, and how its tests start actors and look at queues."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Middleware

from brokers import (
    BrokerOptions,
    JetStreamBroker,
    JetStreamMessage,
    JetStreamStubBroker,
    NotUniqueError,
    QueueSpec,
    control,
    default_middleware,
    inspect,
    recurring,
)
from tests.integration.broker.workers import make_options, wait_until

QUEUES = [
    QueueSpec(name="default", stream="DEFAULT", ack_wait_seconds=30),
    QueueSpec(name="other", stream="OTHER", ack_wait_seconds=30),
]
# Dramatiq's own stub broker, our stub twin, one real server, and three that replicate to each other.
EVERY_BROKER = ["dramatiq-stub", "stub-twin", "server", "cluster"]
OUR_BROKERS = EVERY_BROKER[1:]
only_ours = pytest.mark.parametrize("broker", OUR_BROKERS, indirect=True)

StartWorker = Callable[..., dramatiq.Worker]
Run = Callable[[], None]


def options_for(url: str, **changes: Any) -> BrokerOptions:
    """Retries after 20 ms, room for waiting messages, and patience with a busy machine."""
    values = {"backoff_seconds": (0.02,), "prefetch": 4, "hand_back_seconds": 0.2, **changes}
    return make_options(url, connect_timeout_seconds=5.0, publish_timeout_seconds=10.0, **values)


def make_broker(kind: str, url: str | None, **changes: Any) -> Broker:
    options = options_for(url or "nats://127.0.0.1:9", **changes)
    if kind == "dramatiq-stub":
        return StubBroker(middleware=default_middleware(options), fail_fast_default=False)
    if kind == "stub-twin":
        return JetStreamStubBroker(options, QUEUES)
    return JetStreamBroker(options, QUEUES)


def empty(broker: JetStreamBroker) -> None:
    """Remove what an earlier test left on the server."""
    options = broker.options
    for spec in QUEUES:
        broker.flush(spec.name)
        control.resume(broker, spec.name)
        for schedule in recurring.schedules(broker, spec.name):
            recurring.unschedule(broker, spec.name, schedule.name)
    session = broker.connection.session()
    for stream in (options.dead_letter_stream, options.dead_record_stream, options.status_stream):
        broker.connection.run(session.api(f"STREAM.PURGE.{stream}"))


def declare(broker: Broker, function: Callable[..., Any], **options: Any) -> dramatiq.Actor[..., Any]:
    decorate: Any = dramatiq.actor(broker=broker, **{"actor_name": "job", **options})
    actor: dramatiq.Actor[..., Any] = decorate(function)
    return actor


def publish_raw(
    broker: JetStreamBroker, payload: bytes, headers: dict[str, str] | None = None, queue: str = "default"
) -> None:
    """Put bytes on a queue's subject as a stranger would."""
    if isinstance(broker, JetStreamStubBroker):
        broker.publish_raw(queue, payload, headers)
        return
    session = broker.connection.session()
    broker.connection.run(session.publish(f"transforms.ready.{queue}", payload, headers or {}))


def take(broker: JetStreamBroker) -> tuple[Any, JetStreamMessage]:
    consumer = broker.consume("default", prefetch=1, timeout=100)
    return consumer, wait_until(lambda: next(consumer))


def depth(broker: JetStreamBroker, queue: str = "default") -> inspect.QueueDepth:
    return inspect.depth(broker, broker.specs[queue])


def counts(broker: JetStreamBroker) -> tuple[int, int, int]:
    """(ready and in flight, scheduled, dead)."""
    return broker.get_queue_message_counts("default")


def can_be_taken_by_others(broker: JetStreamBroker, besides: int) -> int:
    """How many messages another process would get, once this one holds no more than `besides`.

    The other one waits long for the first of them, and a moment for one more.
    """
    if isinstance(broker, JetStreamStubBroker):  # knows one process, so what is not held is free
        memory = broker.memory
        wait_until(lambda: len(memory.held()) <= besides)
        return depth(broker).ready + depth(broker).in_flight - besides
    other = JetStreamBroker(broker.options, QUEUES)
    consumer = other.consume("default", prefetch=4, timeout=200)
    taken = [wait_until(lambda: next(consumer))]
    while (message := next(consumer)) is not None:
        taken.append(message)
    consumer.close()  # or they would come back here
    consumer.requeue(taken)
    other.close()
    return len(taken)


class Told(Middleware):
    """Remembers what it was told about dead letters."""

    def __init__(self) -> None:
        self.dead: list[tuple[str | None, str, str]] = []

    def after_dead_letter(self, broker: Any, message: Any, reason: Any, error: Any) -> None:
        self.dead.append((message and message.message_id, str(reason), type(error).__name__))


def race(
    broker: JetStreamBroker, make: Callable[[], dramatiq.Message[Any]], *, times: int = 1
) -> tuple[list[str], list[str | None]]:
    """20 threads enqueue unique messages at once, each so many times: stored ids, and whom the others met."""
    stored, refused = list[str](), list[str | None]()

    def produce(_: int) -> None:
        for _ in range(times):
            try:
                stored.append(broker.enqueue(make()).message_id)
            except NotUniqueError as error:
                refused.append(error.message_id)

    with ThreadPoolExecutor(20) as producers:
        list(producers.map(produce, range(20)))
    return stored, refused
