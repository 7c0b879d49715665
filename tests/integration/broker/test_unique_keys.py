"""A unique key on a real server: whose message expires, and whose message is stored under a new sequence."""

from __future__ import annotations

from typing import Any

import pytest

from brokers import BrokerOptions, JetStreamBroker, NotUniqueError, topology
from brokers.jetstream import outgoing, unique
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, publish_raw, take, wait_until


def unique_message(name: str) -> Any:
    return message("work", name, unique_key="k")


def lock_sequence(broker: JetStreamBroker) -> int:
    session, spec = broker.connection.session(), broker.specs["quick"]
    held = broker.connection.run(unique.holder(session, spec, "k"))
    assert held is not None
    return held.sequence


def renew_first(broker: JetStreamBroker) -> int:
    """Renew the first message that is ready, as for a worker that is gone; its new sequence."""
    session, spec = broker.connection.session(), broker.specs["quick"]

    async def renew() -> int:
        patrol = Patrol(session, spec, Presence(session, spec, list))
        stored = await patrol._next(1)
        assert stored is not None
        await patrol._renew(stored)
        renewed = await patrol._next(1)
        assert renewed is not None
        return int(renewed["seq"])

    return broker.connection.run(renew())


@pytest.fixture
def options(server: NatsServer, request: pytest.FixtureRequest) -> BrokerOptions:
    options = make_options(server.url, **getattr(request, "param", {}))
    topology.apply(options, QUEUES)
    return options


@pytest.mark.parametrize("options", [{"queue_max_age_seconds": 1.0}], indirect=True)
def test_a_message_that_expires_unrun_leaves_its_key(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "_LAST_RUN_SECONDS", 1.0)
    broker.enqueue(unique_message("expires"))
    wait_until(lambda: broker.get_queue_message_counts("quick") == (0, 0, 0))
    with pytest.raises(NotUniqueError):
        broker.enqueue(unique_message("too early"))

    def enqueued() -> bool:
        try:
            broker.enqueue(unique_message("next"))
        except NotUniqueError:
            return False
        return True

    wait_until(enqueued, 30)


def test_a_message_that_is_renewed_for_a_dead_worker_keeps_its_key(broker: JetStreamBroker) -> None:
    broker.enqueue(unique_message("renewed"))
    before = lock_sequence(broker)
    renew_first(broker)
    assert lock_sequence(broker) > before


def test_what_nobody_can_read_is_renewed_without_a_key(broker: JetStreamBroker) -> None:
    publish_raw(broker, b'{"queue_name": "quick", "options": [1]}')
    assert renew_first(broker) > 1


@pytest.mark.parametrize("options", [{"max_deliver": 3}], indirect=True)
def test_a_message_that_is_renewed_before_its_last_delivery_keeps_its_key(broker: JetStreamBroker) -> None:
    broker.enqueue(unique_message("returned"))
    before = lock_sequence(broker)
    for _ in range(2):  # it is renewed when it comes for the second time
        consumer, found = take(broker, 20)
        consumer.requeue([found])
    assert lock_sequence(broker) > before
    consumer, found = take(broker, 20)
    consumer.ack(found)
    broker.join("quick", timeout=20_000)
    broker.enqueue(unique_message("next"))
