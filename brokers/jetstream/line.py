"""A plain connection to a NATS server for publishes and their answers, without an event loop.

It speaks the few words of the protocol that this needs (docs.nats.io, "Client protocol").
What it cannot do is the publisher's: see shortcut.py.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import ParseResult

from brokers.jetstream.loop import threads_are_greenlets
from brokers.jetstream.publisher import Part

_CHUNK = 500  # messages written at once; twice as many may be unanswered, far from what a stream lets wait
_TICK_MICROSECONDS = 250_000  # how often a thread that waits for the server looks at the clock
_ANSWER = re.compile(rb"MSG [^ \r]+\.(\d+) 1 (\d+)\r\n")  # as nearly all are


class ShortcutError(Exception):
    """The server said or did something that the publisher must deal with."""


class NoShortcutError(ShortcutError):
    """There is no short way to this server, and never will be."""


class Line:
    """One connection, used by one thread at a time. Raises OSError and ShortcutError.

    `until` is when to give up (TimeoutError), on the monotonic clock.
    """

    def __init__(self, server: ParseResult, name: str, until: float) -> None:
        self.server = server
        self.used_at = time.monotonic()
        self._until = until
        self._inbox = f"_INBOX.{os.urandom(12).hex()}".encode()
        self._count = 0
        self._buffer, self._at = b"", 0
        self._socket = socket.create_connection((server.hostname, server.port), self._left())
        self._cooperative = threads_are_greenlets()  # their sockets know no timeout but Python's
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._cooperative:
                _let_the_kernel_time(self._socket)
            self._log_in(name)
        except BaseException:
            self.close()
            raise

    def _log_in(self, name: str) -> None:
        info = self._info(self._read_line())
        options: dict[str, Any] = {"verbose": False, "headers": True, "no_responders": True, "name": name}
        user, password = self.server.username, self.server.password
        if info.get("tls_required") or not info.get("headers") or (info.get("auth_required") and not user):
            raise NoShortcutError("the server asks for more than a plain login")
        if user and password is not None:
            options |= {"user": user, "pass": password}
        elif user:
            options["auth_token"] = user
        self._most_bytes = int(info.get("max_payload", 0))
        self._send(b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (json.dumps(options).encode(), self._inbox))
        while self._read_line() != b"PONG":
            pass

    def _info(self, line: bytes) -> dict[str, Any]:
        if not line.startswith(b"INFO "):
            raise NoShortcutError("no NATS server")
        return dict(json.loads(line[5:]))

    def publish(self, parts: Sequence[Part], stored: list[bool], until: float) -> None:
        """Store messages; `stored` tells which of them are confirmed, also when this raises."""
        self._until = until
        first, self._count = self._count, self._count + len(parts)
        sent = unanswered = 0
        while unanswered or sent < len(parts):
            if sent < len(parts) and unanswered <= _CHUNK:
                chunk = parts[sent : sent + _CHUNK]
                unanswered += self._send_all(chunk, first + sent)
                sent += len(chunk)
            if unanswered:
                number, answer = self._answer()
                stored[number - first] = b'"seq"' in answer and b'"error"' not in answer
                unanswered -= 1
        self.used_at = time.monotonic()

    def _send_all(self, parts: Sequence[Part], first: int) -> int:
        """Send all that are not larger than the server takes, with one write, and say how many these are."""
        commands = [self._command(part, number) for number, part in enumerate(parts, first)]
        sending = [command for command in commands if command is not None]
        self._send(b"".join(sending))
        return len(sending)

    def _command(self, part: Part, number: int) -> bytes | None:
        """A publish on the wire; None for one that is larger than the server takes."""
        subject, payload, headers = part.subject.encode(), part.payload, _encode(part.headers)
        size = len(headers) + len(payload)
        if size > self._most_bytes:
            return None
        sizes = (len(headers), size)
        return b"HPUB %b %b.%d %d %d\r\n%b%b\r\n" % (subject, self._inbox, number, *sizes, headers, payload)

    def _answer(self) -> tuple[int, bytes]:
        """The number of a message and what the server says of it, be it that nobody stores such."""
        while True:
            usual = _ANSWER.match(self._buffer, self._at)
            if usual is not None:
                self._at = usual.end()
                return int(usual[1]), self._read(int(usual[2]))
            words = self._read_line().split()
            if words[0] in {b"MSG", b"HMSG"}:
                return int(words[1].rpartition(b".")[2]), self._read(int(words[-1]))
            if words[0] == b"-ERR":
                raise ShortcutError(b" ".join(words).decode(errors="replace"))
            if words[0] == b"PING":
                self._send(b"PONG\r\n")

    def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            self._receive()
        line, self._at = self._buffer[self._at : end], end + 2
        return line or b"+OK"

    def _read(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size + 2:
            self._receive()
        data = self._buffer[self._at : self._at + size]
        self._at += size + 2
        return data

    def _receive(self) -> None:
        self._limit()
        try:
            received = self._socket.recv(65536)
        except BlockingIOError:  # a tick of the kernel's
            return
        if not received:
            raise ShortcutError("the server closed the connection")
        self._buffer, self._at = self._buffer[self._at :] + received, 0

    def _send(self, data: bytes) -> None:
        self._limit()
        self._socket.sendall(data)

    def _limit(self) -> None:
        left = self._left()
        if self._cooperative:
            self._socket.settimeout(left)

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _let_the_kernel_time(connection: socket.socket) -> None:
    """A timeout of Python's makes two calls of each, with a chance for other threads between them."""
    connection.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, _TICK_MICROSECONDS))


def _encode(headers: Mapping[str, str]) -> bytes:
    """Headers on the wire; a line break in a value would end it, and is a space as in the client."""
    lines = [f"{name}: {_in_one_line(value)}\r\n" for name, value in headers.items()]
    return f"NATS/1.0\r\n{''.join(lines)}\r\n".encode()


def _in_one_line(value: str) -> str:
    return value if value.isprintable() else " ".join(value.splitlines())
