"""When the short way of a single publish is not tried, and whose time it takes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

import pytest

from brokers import BrokerOptions, JetStreamBroker
from brokers.jetstream import shortcut
from brokers.jetstream.publisher import Part, Publisher, Send
from brokers.jetstream.shortcut import Shortcut
from tests.integration.broker.faults.proxy import TcpProxy
from tests.integration.broker.server import NatsServer, free_port
from tests.integration.broker.workers import QUEUES, make_options, message


@pytest.fixture
def proxy(server: NatsServer, options: BrokerOptions) -> Iterator[TcpProxy]:
    proxy = TcpProxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def through(proxy: TcpProxy) -> Iterator[JetStreamBroker]:
    """Connected; what it connects to next is the proxy's choice."""
    broker = JetStreamBroker(make_options(proxy.url), QUEUES)
    broker.enqueue(message("work"))
    assert proxy.accepted == 1
    yield broker
    broker.close()


def test_a_server_that_hung_up_once_is_asked_again_after_a_pause(
    through: JetStreamBroker, proxy: TcpProxy, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "_PAUSE_SECONDS", 0.0, raising=False)
    proxy._target_port = free_port()
    through.enqueue(message("work"))
    proxy._target_port = server.port
    through.enqueue(message("work"))
    assert proxy.accepted == 3
    through.enqueue(message("work"))  # on the line that is open now
    assert proxy.accepted == 3
    assert through.get_queue_message_counts("quick") == (4, 0, 0)


def test_nobody_knocks_during_the_pause(
    through: JetStreamBroker, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut, "_PAUSE_SECONDS", 600.0, raising=False)
    proxy._target_port = free_port()
    for _ in range(3):
        through.enqueue(message("work"))
    assert proxy.accepted == 2
    assert through.get_queue_message_counts("quick") == (4, 0, 0)


def test_what_is_no_nats_server_is_never_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcut, "_PAUSE_SECONDS", 0.0, raising=False)
    visits: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    visitor, _ = listener.accept()
                except OSError:
                    return
                visits.append(visitor)
                visitor.sendall(b"220 mail is ready\r\n")
                visitor.close()

        threading.Thread(target=greet, daemon=True).start()
        short, server = Shortcut("test"), urlparse(f"nats://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(3):
            assert short.try_to_publish(server, [Part("a", b"", {"Nats-Msg-Id": "1"})], 2.0) == [False]
        listener.shutdown(socket.SHUT_RDWR)
    assert len(visits) == 1


def test_the_time_of_the_short_way_is_part_of_the_enqueues_own(
    broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[float] = []
    started: list[float] = []
    submit = Publisher.submit

    def try_in_vain(*_: Any) -> list[bool]:
        ended.append(time.monotonic())
        return [False]

    def noted(self: Publisher, sends: list[Send], loop: Any) -> None:
        started.extend(send.started for send in sends)
        submit(self, sends, loop)

    broker.enqueue(message("work"))
    monkeypatch.setattr(Shortcut, "try_to_publish", try_in_vain)
    monkeypatch.setattr(Publisher, "submit", noted)
    broker.enqueue(message("work"))
    assert len(ended) == len(started) == 1
    assert started[0] <= ended[0]
