"""Dead letters for tests, written as a worker writes them, and what becomes of their messages."""

from __future__ import annotations

from typing import Any

from brokers import (
    DeadReason,
    JetStreamBroker,
    QueueSpec,
)
from brokers.jetstream import burial
from brokers.jetstream.message import Delivery, JetStreamMessage
from tests.integration.broker.workers import QUEUES, message

QUICK = QUEUES[0]


def bury(
    broker: JetStreamBroker,
    *,
    spec: QueueSpec = QUICK,
    actor: str = "work",
    reason: DeadReason = DeadReason.PERMANENT_ERROR,
    payload: bytes | None = None,
    sequence: int = 1,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> int:
    """Write a dead letter as a worker would, and return its id."""
    sent = message(actor, queue=spec.name, **options)
    delivery = Delivery(
        spec, reply="", sequence=sequence, deliveries=1, data=payload or sent.encode(), headers={}
    )
    held = None if payload else JetStreamMessage(sent, delivery)
    made = headers or burial.dead_headers(delivery, held, reason, ValueError("wrong"))
    return broker.connection.run(burial.store(broker.connection.session(), delivery, made))


def take_all(broker: JetStreamBroker, queue: str = "quick") -> list[JetStreamMessage]:
    """Take and finish all messages that are ready."""
    consumer = broker.consume(queue, prefetch=50, timeout=300)
    taken: list[JetStreamMessage] = []
    while (found := next(consumer)) is not None:
        consumer.ack(found)
        taken.append(found)
    consumer.close()
    return taken
