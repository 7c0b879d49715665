"""taskiq on its pull JetStream broker; `taskiq worker tests.bench.broker.app_taskiq:broker`."""

from __future__ import annotations

import importlib

from nats.js.api import ConsumerConfig

from tests.bench.broker import bodies
from tests.bench.broker.run import QUEUE, current

# One job per request to the server is its default. With more, a request waits until it is filled or its time
# is over, so the many come at the price of a pause when few arrive.
_MANY = {"pull_consume_batch": 100, "pull_consume_timeout": 0.05}

broker = importlib.import_module("taskiq_nats").PullBasedJetStreamBroker(
    servers=current().url.split(","),
    subject=QUEUE,
    durable=QUEUE,
    **(_MANY if current().system == "taskiq-nats-100" else {}),
    consumer_config=ConsumerConfig(durable_name=QUEUE, ack_wait=current().lease_seconds),
)
work = broker.task(task_name="work")(bodies.work)
