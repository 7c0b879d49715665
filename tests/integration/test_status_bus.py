from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dramatiq.errors import ConnectionFailed

from app.events import bus as bus_module
from app.events.bus import StatusBus
from app.events.types import Connected, Reset, StatusEvent, Told
from brokers import BrokerOptions, JetStreamBroker, publish_event, topology
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import wait_until

ADA = "ada@example.org"
EVENT = StatusEvent(
    transform_type="dataset",
    transform_id=7,
    resource_id=3,
    owner_id=ADA,
    status="success",
    timestamp="2026-01-01T00:00:00+00:00",
    detail={"chunks": 12},
)
_LOOK_UP_SECONDS = 0.1
# 40 s: a request that reaches the server while its consumer goes away may be answered by nothing at all,
# and is taken for lost after 20 s of silence.
_LOOKS = 400


@pytest.fixture
def broker(nats_url: str) -> Iterator[JetStreamBroker]:
    broker = connect(nats_url)
    topology.apply(broker.options, [])
    yield broker
    broker.close()


@pytest.fixture
def bus(broker: JetStreamBroker) -> Iterator[StatusBus]:
    bus = StatusBus(broker)
    yield bus
    bus.close()


@pytest.fixture
def other_bus(broker: JetStreamBroker) -> Iterator[StatusBus]:
    """That of another web process, which has heard nothing yet."""
    bus = StatusBus(broker)
    yield bus
    bus.close()


def connect(url: str) -> JetStreamBroker:
    options = BrokerOptions(servers=url, connect_timeout_seconds=0.5, reconnect_seconds=0.1)
    return JetStreamBroker(options, [])


class Listener:
    """A listener of ada: reads what it is told; heartbeats are skipped."""

    def __init__(
        self,
        bus: StatusBus,
        *,
        after: int | None = None,
        matches: Callable[[StatusEvent], bool] = lambda _event: True,
    ) -> None:
        self.told = bus.listen(ADA, matches, after_sequence=after, heartbeat_seconds=_LOOK_UP_SECONDS)
        first = next(self.told)
        assert isinstance(first, Connected)
        self.connected = first

    def next(self) -> Told:
        for _ in range(_LOOKS):
            if (told := next(self.told)) is not None:
                return told
        raise AssertionError("nothing was told")

    def event(self) -> StatusEvent:
        told = self.next()
        assert isinstance(told, StatusEvent), told
        return told

    def reset(self) -> Reset:
        told = self.next()
        assert isinstance(told, Reset), told
        return told

    def numbers(self, count: int) -> list[int]:
        """The transforms of the next events."""
        return [self.event().transform_id for _ in range(count)]


def store(broker: JetStreamBroker, *numbers: int, owner_id: str = ADA) -> None:
    """Publish events of these transforms, confirmed."""
    for number in numbers:
        event = replace(EVENT, transform_id=number, owner_id=owner_id)
        publish_event(broker, event.subject, event.encode(), confirm=True)


def call(broker: JetStreamBroker, name: str, body: dict[str, int] | None = None) -> dict[str, object]:
    """The server's own interface to the stream of events."""
    session = broker.connection.session()
    return broker.connection.run(session.api(f"{name}.{broker.options.status_stream}", body))


def test_an_event_reaches_a_listener_as_it_was_sent(bus: StatusBus):
    listener = Listener(bus)
    bus.publish(EVENT)
    received = listener.event()
    assert replace(received, sequence=None) == EVENT
    assert received.sequence == (listener.connected.sequence or 0) + 1


def test_a_listener_hears_only_what_it_asked_for(bus: StatusBus, broker: JetStreamBroker):
    listener = Listener(bus, matches=lambda event: event.transform_id > 2)
    store(broker, 3, owner_id="eve")
    store(broker, 3, owner_id="ada_example_org")  # whose subject is the same as ada's
    store(broker, 1, 2, 4)
    assert listener.numbers(1) == [4]


def test_a_process_follows_from_now_on(bus: StatusBus, broker: JetStreamBroker):
    store(broker, 1, 2)
    listener = Listener(bus)
    assert listener.connected == Connected(2)
    store(broker, 3)
    assert listener.numbers(1) == [3]


def test_a_listener_that_comes_back_to_another_process_hears_each_event_once_in_order(
    other_bus: StatusBus, broker: JetStreamBroker
):
    """Also those that are stored while it reads and joins: more of them than a page has."""
    store(broker, *range(150))
    store(broker, 7, 8, owner_id="eve")
    storing = threading.Thread(target=store, args=(broker, *range(150, 400)))
    storing.start()
    listener = Listener(other_bus, after=20)
    assert listener.numbers(380) == list(range(20, 400))
    storing.join()
    store(broker, 400)
    assert listener.numbers(1) == [400]


def test_only_what_matches_is_heard_again(bus: StatusBus, broker: JetStreamBroker):
    store(broker, *range(5))
    store(broker, 9, owner_id="eve")
    store(broker, 9, owner_id="ada_example_org")
    store(broker, 5)
    listener = Listener(bus, after=1, matches=lambda event: event.transform_id % 2 == 1)
    assert listener.numbers(3) == [1, 3, 5]


def test_a_position_where_a_stream_connected_is_one_to_come_back_to(bus: StatusBus, broker: JetStreamBroker):
    store(broker, 1)
    position = Listener(bus).connected.sequence
    store(broker, 2)
    assert Listener(bus, after=position).numbers(1) == [2]


def test_nothing_stays_on_the_server_for_those_who_came_back(bus: StatusBus, broker: JetStreamBroker):
    store(broker, *range(10))
    listeners = [Listener(bus, after=number) for number in range(5)]
    assert [listener.numbers(1) for listener in listeners] == [[number] for number in range(5)]
    state = call(broker, "STREAM.INFO")["state"]
    assert isinstance(state, dict)
    assert state["consumer_count"] == 1


def test_who_comes_back_too_late_is_told_so_and_hears_what_is_new(bus: StatusBus, broker: JetStreamBroker):
    store(broker, *range(10))
    call(broker, "STREAM.PURGE", {"seq": 6})
    assert Listener(bus, after=5).numbers(1) == [5]  # the oldest that is kept
    late = Listener(bus, after=4)
    assert late.reset().sequence == 10
    store(broker, 10)
    assert late.numbers(1) == [10]


def test_who_comes_back_to_another_life_of_the_stream_is_told_so(bus: StatusBus, broker: JetStreamBroker):
    store(broker, 0)
    listener = Listener(bus, after=1_000_000)
    assert listener.reset().sequence == 1
    store(broker, 1)
    assert listener.numbers(1) == [1]


def test_a_stream_that_was_made_anew_and_grew_longer_is_noticed_by_who_listens(
    bus: StatusBus, broker: JetStreamBroker
):
    store(broker, 0)
    listener = Listener(bus)
    call(broker, "STREAM.DELETE")
    topology.apply(broker.options, [])
    store(broker, 1, 2, 3)
    assert listener.reset().sequence == 0
    assert listener.numbers(3) == [1, 2, 3]


def test_silence_is_broken_by_a_heartbeat(bus: StatusBus):
    assert next(Listener(bus).told) is None


def test_a_foreign_message_on_the_stream_is_skipped(bus: StatusBus, broker: JetStreamBroker):
    listener = Listener(bus)
    publish_event(broker, EVENT.subject, b"not json", confirm=True)
    store(broker, 7)
    assert listener.numbers(1) == [7]
    assert Listener(bus, after=0).numbers(1) == [7]


def test_a_listener_that_left_is_forgotten(bus: StatusBus):
    listener = Listener(bus)
    assert bus.listener_count == 1
    del listener
    assert bus.listener_count == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that this test may kill; its streams outlive that."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


def test_listeners_that_came_while_the_server_was_away_go_on_once_it_is_back(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bus_module, "_BEGIN_SECONDS", 0.1)
    before = connect(server.url)
    topology.apply(before.options, [])
    store(before, 0, 1, 2)
    before.close()
    server.kill()
    broker = connect(server.url)
    bus = StatusBus(broker)
    fresh, returning = Listener(bus), Listener(bus, after=1)
    assert fresh.connected == returning.connected == Connected(None)
    assert next(fresh.told) is next(returning.told) is None
    server.start()
    assert fresh.reset().sequence == 3
    assert returning.numbers(2) == [1, 2]
    store(broker, 3)
    assert (fresh.numbers(1), returning.numbers(1)) == ([3], [3])
    bus.close()
    broker.close()


def _is_stored(broker: JetStreamBroker, number: int) -> bool:
    try:
        store(broker, number)
    except ConnectionFailed:  # not connected again yet
        return False
    return True


def test_an_outage_costs_a_listener_nothing_that_the_stream_holds(server: NatsServer):
    broker = connect(server.url)
    topology.apply(broker.options, [])
    bus = StatusBus(broker)
    listener = Listener(bus)
    store(broker, 0)
    assert listener.numbers(1) == [0]
    server.kill()
    returning = Listener(bus, after=0)
    assert next(returning.told) is None
    server.start()
    wait_until(lambda: _is_stored(broker, 1), 30)
    assert (listener.numbers(1), returning.numbers(2)) == ([1], [0, 1])
    bus.close()
    broker.close()
