"""The short way of a single publish, and that whatever it cannot do is done the long way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dramatiq.errors import BrokerConnectionError

from brokers import BrokerOptions, JetStreamBroker, topology
from brokers.jetstream.publisher import Publisher
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
