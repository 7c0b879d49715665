"""Workers whose jobs freeze their process: one native call that keeps the interpreter's lock to itself."""

from __future__ import annotations

import ctypes
from typing import Any

import dramatiq

from brokers import JetStreamBroker, QueueSpec, default_middleware
from tests.integration.broker.actors import Teller, setting, write
from tests.integration.broker.workers import make_options

QUEUES = [QueueSpec(name="patient", stream="PATIENT", ack_wait_seconds=4.5)]


def freeze(name: str, seconds: int) -> None:
    write("start", name)
    ctypes.PyDLL(None).sleep(seconds)
    write("end", name)


def set_up() -> None:
    options = make_options(setting("TEST_NATS_URL"), prefetch=1)
    broker = JetStreamBroker(options, QUEUES, middleware=[*default_middleware(options), Teller()])
    decorate: Any = dramatiq.actor(queue_name="patient", broker=broker, time_limit=60_000)
    decorate(freeze)
    dramatiq.set_broker(broker)
