from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.events.bus import StatusBus
from app.events.types import StatusEvent
from brokers import BrokerOptions, JetStreamBroker, publish_event, topology

EVENT = StatusEvent(
    transform_type="dataset",
    transform_id=7,
    resource_id=3,
    owner_id="ada@example.org",
    status="success",
    timestamp="2026-01-01T00:00:00+00:00",
    detail={"chunks": 12},
)


@pytest.fixture
def broker(nats_url: str) -> Iterator[JetStreamBroker]:
    options = BrokerOptions(servers=nats_url)
    topology.apply(options, [])
    broker = JetStreamBroker(options, [])
    yield broker
    broker.close()


@pytest.fixture
def bus(broker: JetStreamBroker) -> Iterator[StatusBus]:
    bus = StatusBus(broker)
    yield bus
    bus.close()


def next_event(events: Iterator[StatusEvent | None]) -> StatusEvent:
    for _ in range(50):
        if (event := next(events)) is not None:
            return event
    raise AssertionError("no event came")


def everything(_event: StatusEvent) -> bool:
    return True


def test_an_event_reaches_a_listener_as_it_was_sent(bus: StatusBus):
    events = bus.listen(everything, heartbeat_seconds=0.2)
    bus.publish(EVENT)
    received = next_event(events)
    assert replace(received, sequence=None) == EVENT
    assert received.sequence is not None


def test_a_listener_hears_only_what_it_asked_for(bus: StatusBus):
    events = bus.listen(lambda event: event.owner_id == "ada@example.org", heartbeat_seconds=0.2)
    bus.publish(replace(EVENT, owner_id="eve"))
    bus.publish(EVENT)
    assert next_event(events).owner_id == "ada@example.org"


def test_a_listener_that_comes_back_gets_what_it_missed(bus: StatusBus):
    first = next_event(_published(bus, EVENT))
    bus.publish(replace(EVENT, status="failed"))
    events = bus.listen(everything, after_sequence=first.sequence, heartbeat_seconds=0.2)
    assert next_event(events).status == "failed"


def test_silence_is_broken_by_a_heartbeat(bus: StatusBus):
    assert next(bus.listen(everything, heartbeat_seconds=0.05)) is None


def test_a_foreign_message_on_the_stream_is_skipped(bus: StatusBus, broker: JetStreamBroker):
    events = bus.listen(everything, heartbeat_seconds=0.2)
    publish_event(broker, EVENT.subject, b"not json", confirm=True)
    bus.publish(EVENT)
    assert next_event(events).status == "success"


def test_a_listener_that_left_is_forgotten(bus: StatusBus):
    events = bus.listen(everything, heartbeat_seconds=0.05)
    next(events)
    assert bus.listener_count == 1
    del events
    assert bus.listener_count == 0


def _published(bus: StatusBus, event: StatusEvent) -> Iterator[StatusEvent | None]:
    events = bus.listen(everything, heartbeat_seconds=0.2)
    bus.publish(event)
    return events
