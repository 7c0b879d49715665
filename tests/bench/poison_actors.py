"""The workers of bench_poison: the tests' poisons, with the options that a product would have."""

from __future__ import annotations

import dramatiq

from brokers import BrokerOptions, JetStreamBroker, QueueSpec, default_middleware
from tests.integration.broker import poisons
from tests.integration.broker.actors import Teller, setting

QUEUE = QueueSpec(name="jobs", stream="JOBS", ack_wait_seconds=600)


def make_options(url: str) -> BrokerOptions:
    return BrokerOptions(servers=url, hung_grace_seconds=1.0)


def set_up() -> None:
    options = make_options(setting("TEST_NATS_URL"))
    broker = JetStreamBroker(options, [QUEUE], middleware=[*default_middleware(options), Teller()])
    poisons.declare(broker, QUEUE.name)
    dramatiq.set_broker(broker)
