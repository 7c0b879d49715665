"""What a bare socket reaches on the same server: the floor under every client of whatever language.

A round trip of nothing (PING and PONG), and a publish of 1 kB that the stream confirms, one at a time.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from urllib.parse import urlparse

_INBOX = b"_INBOX.bare.1"


def _connected(url: str) -> socket.socket:
    server = urlparse(url)
    connection = socket.create_connection((server.hostname, server.port), 10)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    options = json.dumps({"verbose": False, "headers": True, "no_responders": True}).encode()
    connection.recv(65536)
    connection.sendall(b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n" % (options, _INBOX))
    _until(connection, b"PONG\r\n")
    return connection


def _until(connection: socket.socket, end: bytes) -> None:
    received = b""
    while not received.endswith(end):
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("the server hung up")
        received += chunk


def _repeated(call: Callable[[int], None], seconds: float) -> tuple[float, float]:
    """Microseconds of one call: of the clock, and of this thread's processor time."""
    count, started, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() < started + seconds:
        call(count)
        count += 1
    return (time.perf_counter() - started) / count * 1e6, (time.thread_time() - cpu) / count * 1e6


def measured(url: str, subject: str, body: bytes, seconds: float) -> dict[str, float]:
    """Microseconds of each kind; a stream must store the subject."""
    connection, run = _connected(url.split(",", maxsplit=1)[0]), os.urandom(8).hex()

    def ping(_: int) -> None:
        connection.sendall(b"PING\r\n")
        _until(connection, b"PONG\r\n")

    def publish(number: int) -> None:
        headers = f"NATS/1.0\r\nNats-Msg-Id: {run}{number}\r\n\r\n".encode()
        size = len(headers) + len(body)
        command = b"HPUB %b %b %d %d\r\n" % (subject.encode(), _INBOX, len(headers), size)
        connection.sendall(command + headers + body + b"\r\n")
        _until(connection, b"}\r\n")

    try:
        ping_us, _ = _repeated(ping, seconds / 2)
        publish_us, publish_cpu_us = _repeated(publish, seconds)
    finally:
        connection.close()
    return {"bare_ping_us": ping_us, "bare_publish_us": publish_us, "bare_publish_cpu_us": publish_cpu_us}
