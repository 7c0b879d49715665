"""taskiq on its pull JetStream broker; `taskiq worker tests.bench.broker.app_taskiq:broker`."""

from __future__ import annotations

import importlib

from nats.js.api import ConsumerConfig

from tests.bench.broker import bodies
from tests.bench.broker.run import QUEUE, current

broker = importlib.import_module("taskiq_nats").PullBasedJetStreamBroker(
    servers=current().url.split(","),
    subject=QUEUE,
    durable=QUEUE,
    pull_consume_batch=100,  # its default is a round trip to the server for each job
    consumer_config=ConsumerConfig(durable_name=QUEUE, ack_wait=current().lease_seconds),
)
work = broker.task(task_name="work")(bodies.work)
