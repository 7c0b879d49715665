"""The Dramatiq application of ours, Redis and RabbitMQ; `dramatiq tests.bench.broker.app_dramatiq:set_up`."""

from __future__ import annotations

import importlib
from typing import Any

import dramatiq

from tests.bench.broker.bodies import work
from tests.bench.broker.run import QUEUE, Run, current


def set_up() -> dramatiq.Actor[..., Any]:
    """Make the global broker and its one actor."""
    broker = make_broker(current())
    dramatiq.set_broker(broker)
    actor: dramatiq.Actor[..., Any] = dramatiq.actor(queue_name=QUEUE, broker=broker)(work)
    return actor


def make_broker(run: Run) -> Any:
    """The system's broker with its defaults, except for the time after which a worker counts as dead."""
    if run.system.startswith("ours"):
        return _ours(run)
    if run.system == "rabbitmq":
        rabbitmq = importlib.import_module("dramatiq.brokers.rabbitmq")
        return rabbitmq.RabbitmqBroker(url=run.url, confirm_delivery=True)
    # Redis workers look for dead ones by chance, at every 1,000th command by default; where that is what we
    # wait for, at every tenth, else the round would last for minutes.
    chance = {"maintenance_chance": 100_000} if run.leases_are_short else {}
    redis = importlib.import_module("dramatiq.brokers.redis")
    return redis.RedisBroker(url=run.url, heartbeat_timeout=int(run.lease_seconds * 1000), **chance)


def _ours(run: Run) -> Any:
    from brokers import JetStreamBroker

    return JetStreamBroker(*topology_of(run))


def topology_of(run: Run) -> tuple[Any, list[Any]]:
    """Options and queues of ours."""
    from brokers import BrokerOptions, QueueSpec

    queues = [QueueSpec(name=QUEUE, stream="BENCH", ack_wait_seconds=run.lease_seconds)]
    return BrokerOptions(servers=run.url, replicas=run.replicas), queues
