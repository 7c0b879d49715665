"""What the broker does by itself, it tells whoever counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from brokers import BrokerOptions, JetStreamBroker
from brokers.jetstream import overdue
from brokers.jetstream.overdue import Overdue
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from tests.integration.broker.workers import QUEUES, message, take, wait_until

Told = list[tuple[str, str]]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def broker(options: BrokerOptions, told: Told) -> Iterator[JetStreamBroker]:
    def listen(what: str, queue: str) -> None:
        told.append((what, queue))
        raise RuntimeError("a listener's mistake ends nothing")

    broker = JetStreamBroker(dataclasses.replace(options, on_event=listen), QUEUES)
    yield broker
    broker.close()


def patrol_of(broker: JetStreamBroker) -> Patrol:
    session, spec = broker.connection.session(), broker.specs["quick"]
    return Patrol(session, spec, Presence(session, spec, list))


def test_a_job_that_lasts_is_told_of_at_every_heartbeat(broker: JetStreamBroker, told: Told) -> None:
    broker.enqueue(message("work", "long"))
    consumer, found = take(broker)
    wait_until(lambda: told.count(("in-progress", "quick")) >= 2, 30)
    consumer.ack(found)
    assert set(told) == {("in-progress", "quick")}


def test_messages_that_are_rescued_are_told_of_with_the_cause(
    broker: JetStreamBroker, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    patrol, session = patrol_of(broker), broker.connection.session()
    broker.enqueue(message("work", "orphan"))

    async def lose_its_worker() -> None:
        stored = await patrol._next(1)
        assert stored is not None
        patrol._orphans = {int(stored["seq"])}
        await patrol._renew_orphans({int(stored["seq"]): stored})

    broker.connection.run(lose_its_worker())
    assert told == [("orphaned", "quick")]
    told.clear()
    monkeypatch.setattr(overdue, "OVERDUE", -timedelta(minutes=20))  # as if its time had passed
    monkeypatch.setattr(overdue, "_LOOKED_AT", 1)  # or it would seem so again and again
    broker.enqueue(message("work", "late"), delay=600_000)
    broker.connection.run(Overdue(session, broker.specs["quick"]).nudge(datetime.now(UTC)))
    assert told == [("overdue", "quick")]


def test_a_message_without_deliveries_left_is_told_of(broker: JetStreamBroker, told: Told) -> None:
    broker.enqueue(message("work", "stranded"))
    session = broker.connection.session()

    async def use_up_all_deliveries() -> None:
        client = await session.client()
        pull = await client.jetstream().pull_subscribe_bind(stream="QUICK", consumer="quick")
        for _ in range(broker.options.max_deliver):
            (found,) = await pull.fetch(1, timeout=10)
            await client.request(found.reply, b"-NAK", 10)
        await pull.unsubscribe()

    broker.connection.run(use_up_all_deliveries(), timeout_seconds=120)
    broker.consume("quick")  # with it patrols begin
    wait_until(lambda: ("stranded", "quick") in told, 60)
