"""A plain connection to a NATS server for publishes and their answers, without an event loop.

It speaks the few words of the protocol that this needs (docs.nats.io, "Client protocol").
What it cannot do is the publisher's: see shortcut.py.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import ParseResult

from brokers.jetstream.publisher import Part

_CHUNK = 500  # messages written at once; twice as many may be unanswered, far from what a stream lets wait
_HEADER_START = b"NATS/1.0\r\n"


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
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._count = 0
        self._buffer, self._at = b"", 0
        self._socket = socket.create_connection((server.hostname, server.port), self._left())
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        self._send(f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox}.* 1\r\nPING\r\n".encode())
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
        commands = [self._command(part, first + number) for number, part in enumerate(parts)]
        sending = [command for command in commands if command is not None]
        sent = answered = 0
        while answered < len(sending):
            if sent < len(sending) and sent - answered <= _CHUNK:
                self._send(b"".join(sending[sent : sent + _CHUNK]))
                sent = min(sent + _CHUNK, len(sending))
            number, answer = self._answer()
            stored[number - first] = b'"seq"' in answer and b'"error"' not in answer
            answered += 1
        self.used_at = time.monotonic()

    def _command(self, part: Part, number: int) -> bytes | None:
        """A publish on the wire; None for one that is larger than the server takes."""
        headers = _encode(part.headers)
        size = len(headers) + len(part.payload)
        if size > self._most_bytes:
            return None
        command = f"HPUB {part.subject} {self._inbox}.{number} {len(headers)} {size}\r\n"
        return b"".join((command.encode(), headers, part.payload, b"\r\n"))

    def _answer(self) -> tuple[int, bytes]:
        """The number of a message and what the server says of it, be it that nobody stores such."""
        while True:
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
        self._socket.settimeout(self._left())
        received = self._socket.recv(65536)
        if not received:
            raise ShortcutError("the server closed the connection")
        self._buffer, self._at = self._buffer[self._at :] + received, 0

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(data)

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _encode(headers: Mapping[str, str]) -> bytes:
    """Headers on the wire; a line break in a value would end it, and is a space as in the client."""
    lines = [f"{name}: {' '.join(value.splitlines())}\r\n" for name, value in headers.items()]
    return b"".join([_HEADER_START, *(line.encode() for line in lines), b"\r\n"])
