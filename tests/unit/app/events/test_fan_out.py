"""How events reach the listeners of one process, on the broker's twin in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.events.bus import StatusBus
from app.events.types import Connected, Reset, StatusEvent, Told
from brokers import BrokerOptions, JetStreamBroker, JetStreamStubBroker

ROOM = 1_000


@pytest.fixture
def broker() -> Iterator[JetStreamBroker]:
    broker = JetStreamStubBroker(BrokerOptions(), [])
    yield broker
    broker.close()


@pytest.fixture
def bus(broker: JetStreamBroker) -> StatusBus:
    return StatusBus(broker)


def event(number: int, owner_id: str = "ada") -> StatusEvent:
    return StatusEvent("dataset", number, 1, owner_id, "success", "2026-01-01T00:00:00+00:00")


def listen(bus: StatusBus, owner_id: str = "ada", modulo: int = 1) -> Iterator[Told | None]:
    told = bus.listen(owner_id, lambda event: event.transform_id % modulo == 0, heartbeat_seconds=0.01)
    assert isinstance(next(told), Connected)
    return told


def numbers(told: Iterator[Told | None], count: int) -> list[int]:
    events = [next(told) for _ in range(count)]
    return [one.transform_id for one in events if isinstance(one, StatusEvent)]


def test_what_does_not_match_takes_no_room(bus: StatusBus):
    told = listen(bus, modulo=1_500)
    for number in range(1_501):
        bus.publish(event(number + 1, owner_id="eve"))
        bus.publish(event(number))
    assert numbers(told, 2) == [0, 1_500]
    assert next(told) is None


def test_a_listener_that_lags_by_its_room_loses_nothing(bus: StatusBus):
    told = listen(bus)
    for number in range(ROOM):
        bus.publish(event(number))
    assert numbers(told, ROOM) == list(range(ROOM))


def test_a_listener_that_lags_by_more_is_told_to_read_the_truth_again(bus: StatusBus):
    slow, quick = listen(bus), listen(bus)
    for number in range(ROOM + 1):
        bus.publish(event(number))
        assert numbers(quick, 1) == [number]
    bus.publish(event(7))
    assert next(slow) == Reset(ROOM + 1, "this listener was too slow")
    assert numbers(slow, 1) == [7]
    assert next(slow) is None


def test_a_hole_in_the_stream_is_told_to_all(bus: StatusBus):
    ada, bob = listen(bus), listen(bus, "bob")
    bus._receive(1, "", event(1).encode())
    assert numbers(ada, 1) == [1]
    bus._receive(3, "", event(3).encode())
    assert next(ada) == next(bob) == Reset(2, "the stream was interrupted")
    assert numbers(ada, 1) == [3]
