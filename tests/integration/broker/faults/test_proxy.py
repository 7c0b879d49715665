"""The bad network does what its modes say: a proxy that lets everything pass would prove nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.integration.broker.faults.proxy import Mode, TcpProxy

_SECONDS = 5.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(100):
                    client.sendall(data)
            except OSError:
                pass

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def echo_proxy(echo: int) -> Iterator[TcpProxy]:
    proxy = TcpProxy(echo)
    yield proxy
    proxy.close()


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=_SECONDS)


def test_what_passes_comes_back_and_both_ways_end_together(echo_proxy: TcpProxy) -> None:
    with connect(echo_proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""


def test_a_partition_is_silent_and_delivers_late(echo_proxy: TcpProxy) -> None:
    with connect(echo_proxy) as before:
        before.sendall(b"1")
        assert before.recv(100) == b"1"
        echo_proxy.set(Mode.DROP)
        before.sendall(b"2")
        with connect(echo_proxy) as during:
            during.sendall(b"3")
            for client in (before, during):
                client.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.recv(100)
                client.settimeout(_SECONDS)
            echo_proxy.set(Mode.PASS)
            assert (before.recv(100), during.recv(100)) == (b"2", b"3")


def test_refused_means_nobody_listens_until_it_passes_again(echo_proxy: TcpProxy) -> None:
    with connect(echo_proxy) as client:
        client.sendall(b"1")
        assert client.recv(100) == b"1"
        echo_proxy.set(Mode.REFUSE)
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connect(echo_proxy)
    echo_proxy.set(Mode.PASS)
    with connect(echo_proxy) as client:
        client.sendall(b"2")
        assert client.recv(100) == b"2"


def test_reset_hits_new_connections_too_but_a_single_storm_does_not(echo_proxy: TcpProxy) -> None:
    with connect(echo_proxy) as client:
        client.sendall(b"1")
        assert client.recv(100) == b"1"
        echo_proxy.set(Mode.RESET)
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with connect(echo_proxy) as client, pytest.raises(ConnectionResetError):
        client.recv(100)
    echo_proxy.set(Mode.PASS)
    with connect(echo_proxy) as client:
        client.sendall(b"1")
        assert client.recv(100) == b"1"
        echo_proxy.reset_connections()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with connect(echo_proxy) as client:
        client.sendall(b"2")
        assert client.recv(100) == b"2"
