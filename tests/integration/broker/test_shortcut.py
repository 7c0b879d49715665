"""The short way of publishes, and that whatever it cannot do is done the long way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import BrokerOptions, JetStreamBroker, topology
from brokers.jetstream.line import Line
from brokers.jetstream.publisher import Part, Publisher
from brokers.jetstream.shortcut import Shortcut
from tests.integration.broker.faults.proxy import TcpProxy
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message


@pytest.fixture
def long_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a subject with each message that the publisher was asked to send."""
    taken: list[str] = []
    submit = Publisher.submit

    def noted(self: Publisher, sends: list[object], loop: object) -> None:
        taken.extend(send.message.subject for send in sends)  # type: ignore[attr-defined]
        submit(self, sends, loop)  # type: ignore[arg-type]

    monkeypatch.setattr(Publisher, "submit", noted)
    return taken


def test_only_the_first_message_of_a_process_goes_the_long_way(
    broker: JetStreamBroker, long_ways: list[str]
) -> None:
    for number in range(20):
        broker.enqueue(message("work", number))
    assert long_ways == ["transforms.ready.quick"]
    assert broker.get_queue_message_counts("quick") == (20, 0, 0)


def test_many_at_once_go_the_short_way_in_their_order(broker: JetStreamBroker, long_ways: list[str]) -> None:
    broker.enqueue(message("work"))
    del long_ways[:]
    sent = broker.enqueue_many(message("work", number) for number in range(1, 2_501))
    assert long_ways == []
    consumer = broker.consume("quick", prefetch=100, timeout=2000)
    taken = []
    for _ in range(101):
        found = next(consumer)
        assert found is not None
        consumer.ack(found)
        taken.append(found.message_id)
    assert taken[1:] == [one.message_id for one in sent[:100]]
    assert broker.get_queue_message_counts("quick")[0] >= 2_400


def test_threads_that_come_together_share_journeys_and_each_message_is_stored_once(
    broker: JetStreamBroker, long_ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journeys: list[int] = []
    publish = Line.publish

    def counted(self: Line, parts: Sequence[Part], stored: list[bool], until: float) -> None:
        journeys.append(len(parts))
        publish(self, parts, stored, until)

    monkeypatch.setattr(Line, "publish", counted)
    broker.enqueue(message("work"))
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: broker.enqueue(message("work", number)), range(2_000)))
    assert len(long_ways) == 1
    assert sum(journeys) == 2_000
    assert len(journeys) < 1_500
    assert broker.get_queue_message_counts("quick") == (2_001, 0, 0)


def test_only_what_the_server_refuses_is_left_to_the_publisher(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    broker.enqueue(message("work"))
    subjects = ["transforms.ready.quick", "nobody.stores.this", "transforms.ready.quick"]
    parts = [Part(subject, b"x", {"Nats-Msg-Id": str(number)}) for number, subject in enumerate(subjects)]
    short = Shortcut("test")
    assert short.try_to_publish(urlparse(server.url), parts, 2.0) == [True, False, True]
    assert short.try_to_publish(urlparse(server.url), parts[:1], 2.0) == [True]  # a duplicate is stored, too
    short.close()


class TimeIsUp(BaseException):
    """What Dramatiq raises in a thread whose job has run for too long."""


def test_a_thread_that_dies_on_its_way_does_not_take_the_others_along(
    server: NatsServer, options: BrokerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, url = Shortcut("test"), urlparse(server.url)
    part = Part("transforms.ready.quick", b"x", {"Nats-Msg-Id": "1"})
    with monkeypatch.context() as patched, pytest.raises(TimeIsUp):
        patched.setattr(Line, "publish", lambda *_: (_ for _ in ()).throw(TimeIsUp))
        short.try_to_publish(url, [part], 2.0)
    assert short.try_to_publish(url, [part], 2.0) == [True]
    short.close()
    assert options.servers


def test_a_message_sent_twice_the_short_way_is_stored_once(broker: JetStreamBroker) -> None:
    broker.enqueue(message("work"))
    one = message("work")
    broker.enqueue(one)
    broker.enqueue(one)
    assert broker.get_queue_message_counts("quick") == (2, 0, 0)


def test_after_a_restart_of_the_server_messages_are_stored_again(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    broker.enqueue(message("work"))
    broker.enqueue(message("work"))
    server.stop()
    server.start()
    stored = 2
    while stored < 6:
        try:
            broker.enqueue(message("work"))
        except BrokerConnectionError:
            continue
        stored += 1
    assert broker.get_queue_message_counts("quick")[0] >= 6


def test_a_message_whose_connection_breaks_on_the_short_way_takes_the_long_one(
    server: NatsServer, options: BrokerOptions, long_ways: list[str]
) -> None:
    proxy = TcpProxy(server.port)
    broker = JetStreamBroker(make_options(proxy.url), QUEUES)
    broker.enqueue(message("work"))
    broker.enqueue(message("work"))  # the short way is open
    del long_ways[:]
    proxy.reset_connections()
    try:
        broker.enqueue(message("work"))
    finally:
        broker.close()
        proxy.close()
    assert long_ways == ["transforms.ready.quick"]
    other = JetStreamBroker(options, QUEUES)
    assert other.get_queue_message_counts("quick") == (3, 0, 0)
    other.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[[str], NatsServer]]:
    servers: list[NatsServer] = []

    def start(authorization: str) -> NatsServer:
        settings = tmp_path / "nats.conf"
        settings.write_text(f"authorization {{ {authorization} }}")
        servers.append(NatsServer(tmp_path / "guarded", "-c", str(settings)))
        servers[0].start()
        return servers[0]

    yield start
    for server in servers:
        server.kill()


@pytest.mark.parametrize(
    ("authorization", "login"),
    [('user: "ann", password: "secret"', "ann:secret"), ('token: "secret"', "secret")],
)
def test_logins_in_the_url_open_the_short_way(
    guarded: Callable[[str], NatsServer], long_ways: list[str], authorization: str, login: str
) -> None:
    server = guarded(authorization)
    options = make_options(f"nats://{login}@127.0.0.1:{server.port}")
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    broker.enqueue_many([message("work"), message("work")])
    del long_ways[:]
    broker.enqueue(message("work"))
    assert long_ways == []
    broker.close()
