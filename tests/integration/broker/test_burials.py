"""A message is buried once, by whoever has it, and for as many deaths as there were."""

from __future__ import annotations

from typing import Any

import pytest

from brokers import DeadReason, JetStreamBroker, JetStreamMessage, dead_letter
from brokers.jetstream import burial
from brokers.jetstream import consumer as consumer_module
from brokers.jetstream.message import Delivery
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from brokers.jetstream.stored import all_headers, stored_at, stored_payload
from tests.integration.broker.workers import (
    QUEUES,
    StartWorker,
    declare,
    message,
    publish_raw,
    take,
    wait_until,
)


def as_delivery(stored: dict[str, Any]) -> Delivery:
    return Delivery(
        QUEUES[0],
        reply="",
        sequence=stored["seq"],
        deliveries=1,
        data=stored_payload(stored),
        headers=all_headers(stored),
        stored_at=stored_at(stored),
    )


def test_a_message_that_was_renewed_twice_after_its_burial_has_one_dead_letter(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    declare(broker, print)  # or the worker would consume nothing
    publish_raw(broker, b"\xff\xfe")
    session = broker.connection.session()
    patrol = Patrol(session, QUEUES[0], Presence(session, QUEUES[0], list))

    async def bury_and_renew() -> None:
        found = await patrol._next(1)
        assert found is not None
        first = as_delivery(found)
        headers = burial.dead_headers(first, None, DeadReason.UNDECODABLE, None)
        await burial.store(session, first, headers)
        for _ in range(2):
            await patrol._renew(found)
            found = await patrol._next(1)
            assert found is not None
        assert as_delivery(found).first_stored_id == first.stored_id != as_delivery(found).stored_id

    broker.connection.run(bury_and_renew())
    start_worker()
    broker.join("quick", timeout=30_000)
    assert len(dead_letter.list_dead(broker, 10)) == 1


def test_strangers_messages_are_all_buried_whatever_they_say_of_where_they_were_first(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    declare(broker, print)
    for payload, first in ((b"\xff", "QUICK:1:1"), (b"\xfe", "QUICK:1:1"), (b"\xfd", "x" * 60_000)):
        publish_raw(broker, payload, {"Dramatiq-First": first})
    start_worker()
    broker.join("quick", timeout=30_000)
    assert len(dead_letter.list_dead(broker, 10)) == 3


def test_a_message_that_was_given_back_is_not_buried_here_any_more(broker: JetStreamBroker) -> None:
    consumer = broker.consume("quick", timeout=100)
    stale = Delivery(QUEUES[0], reply="", sequence=1, deliveries=1, data=b"\xff", headers={}, settled=True)
    assert broker.admit(consumer._intake, stale) is None
    assert dead_letter.list_dead(broker, 10) == []


@pytest.mark.parametrize("given_back", [0, 1])
def test_a_message_dies_of_three_deaths_however_often_it_was_given_back_before(
    broker: JetStreamBroker, given_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "_OFF_SECONDS", 0.01)
    broker.enqueue(message("work", "poison"))
    for _ in range(given_back):
        first, found = take(broker)
        first.requeue([found])
        first.close()
    consumer, found = take(broker)
    deaths = 0
    while not dead_letter.list_dead(broker, 1):
        if found is not None:
            kill_its_worker(broker, found)
            deaths += 1
        found = next(consumer)
    assert deaths == 3
    assert "3 runs started" in dead_letter.list_dead(broker, 1)[0].error_message
    wait_until(lambda: not notes(broker))


def kill_its_worker(broker: JetStreamBroker, message: JetStreamMessage) -> None:
    """In the middle of its run, as the server and the other workers see it."""
    broker.emit_before("process_message", message)
    live = broker.running()

    async def die() -> None:
        live.holdings._let_go(message.delivery)
        live.intakes["quick"]._settled(message.delivery)
        await (await live.session.client()).publish(message.delivery.reply, b"-NAK")

    broker.connection.run(die())
    live.gate.leave(message)


def notes(broker: JetStreamBroker) -> dict[str, int]:
    body = {"subjects_filter": "transforms.started.>"}
    info = broker.connection.run(broker.connection.session().api("STREAM.INFO.QUICK", body))
    return info["state"].get("subjects") or {}


def test_a_suspect_that_is_given_back_when_its_queue_stops_lets_the_next_one_run(
    broker: JetStreamBroker,
) -> None:
    broker.enqueue(message("work"))
    consumer, found = take(broker)
    live = broker.running()
    assert live.gate.admit(found)

    async def its_turn_comes() -> None:
        live.intakes["quick"].put(found)

    broker.connection.run(its_turn_comes())
    consumer.close()
    assert live.gate.admit(found)
