"""The short way for a single publish: the calling thread asks the server itself, over a socket of its own.

Handing one publish to the event loop and waiting for it costs several switches between threads, four
times what the server needs (docs/adr/0008). The shortcut only ever hopes: whatever it cannot do (TLS,
other logins than those in the URL, a server that moved, an answer it does not expect) it leaves to the
publisher, which sends the same message with the same Nats-Msg-Id, so the server stores it once.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import ParseResult

from brokers.jetstream.loop import threads_are_greenlets
from brokers.jetstream.publisher import Part

log = logging.getLogger(__name__)

_SECONDS = 1.0  # at most; the rest of an enqueue's time is the publisher's
_PAUSE_SECONDS = 5.0  # before a server that was away or silent is asked again
_IDLE_SECONDS = 30.0  # the server asks idle connections for a sign of life every two minutes
_MOST_LINES = 4  # more at a time only fight for the interpreter's lock: the others wait their turn
_ROOM_SECONDS = 0.1
_HEADER_START = b"NATS/1.0\r\n"


class ShortcutError(Exception):
    """The server said or did something that the publisher must deal with."""


class NoShortcutError(ShortcutError):
    """There is no short way to this server, and never will be."""


class Line:
    """One plain connection, used by one thread at a time. Raises OSError and ShortcutError.

    `until` is when to give up (TimeoutError), on the monotonic clock.
    """

    def __init__(self, server: ParseResult, name: str, until: float) -> None:
        self.server = server
        self.used_at = time.monotonic()
        self._until = until
        self._inbox = f"_INBOX.{os.urandom(12).hex()}"
        self._count = 0
        self._buffer = b""
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
        hello = f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox}.* 1\r\nPING\r\n"
        self._socket.sendall(hello.encode())
        while self._read_line() != b"PONG":
            pass

    def _info(self, line: bytes) -> dict[str, Any]:
        if not line.startswith(b"INFO "):
            raise NoShortcutError("no NATS server")
        return dict(json.loads(line[5:]))

    def publish(self, part: Part, until: float) -> None:
        """Store a message; it is stored and confirmed when this returns."""
        self._until = until
        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        headers = _encode(part.headers)
        size = len(headers) + len(part.payload)
        if size > self._most_bytes:
            raise ShortcutError("too large")
        command = f"HPUB {part.subject} {reply} {len(headers)} {size}\r\n".encode()
        self._socket.settimeout(self._left())
        self._socket.sendall(b"".join((command, headers, part.payload, b"\r\n")))
        answer = self._answer(reply.encode())
        if b'"error"' in answer or b'"seq"' not in answer:
            raise ShortcutError(answer.decode(errors="replace"))
        self.used_at = time.monotonic()

    def _answer(self, reply: bytes) -> bytes:
        while True:
            words = self._read_line().split()
            if words[0] == b"PING":
                self._socket.sendall(b"PONG\r\n")
            elif words[0] in {b"HMSG", b"-ERR"}:  # no responders, or worse
                raise ShortcutError(b" ".join(words).decode(errors="replace"))
            elif words[0] == b"MSG":
                payload = self._read(int(words[-1]) + 2)
                if words[1] == reply:
                    return payload

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line or b"+OK"

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        self._socket.settimeout(self._left())
        received = self._socket.recv(65536)
        if not received:
            raise ShortcutError("the server closed the connection")
        self._buffer += received

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class Shortcut:
    """The lines of one process. Made anew after a fork."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: deque[Line] = deque()
        self._room: SimpleQueue[None] = SimpleQueue()  # one entry per line that may be used now
        for _ in range(_MOST_LINES):
            self._room.put(None)
        self._closed_until: dict[str, float] = {}  # servers that are not asked before that moment

    def try_to_publish(self, server: ParseResult, part: Part, seconds: float) -> bool:
        """True when the message is stored and confirmed; False: use the publisher.

        Takes no longer than half of `seconds`, a second at most. Never raises.
        """
        now = time.monotonic()
        closed = now < self._closed_until.get(server.netloc, 0.0)
        if server.scheme != "nats" or closed or "Nats-Msg-Id" not in part.headers:
            return False
        try:
            # A greenlet that waited here could stop the one that it waits for.
            self._room.get(timeout=0 if threads_are_greenlets() else min(_ROOM_SECONDS, seconds / 4))
        except Empty:
            return False
        try:
            return self._publish(server, part, now + min(_SECONDS, seconds / 2))
        finally:
            self._room.put(None)

    def _publish(self, server: ParseResult, part: Part, until: float) -> bool:
        line: Line | None = None
        try:
            line = self._line(server, until)
            line.publish(part, until)
        except (OSError, ShortcutError, ValueError, IndexError) as error:
            log.debug("The short way to %s is closed: %s", part.subject, error)
            if line is None or isinstance(error, TimeoutError):
                self._close_to(server, error)
            if line is not None:
                line.close()
            return False
        self._idle.append(line)
        return True

    def _close_to(self, server: ParseResult, error: Exception) -> None:
        """Or every message would wait for what the last one waited for in vain."""
        pause = float("inf") if isinstance(error, NoShortcutError) else _PAUSE_SECONDS
        self._closed_until[server.netloc] = time.monotonic() + pause

    def _line(self, server: ParseResult, until: float) -> Line:
        """An open line to the server, else a new one."""
        while self._idle:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if line.server.netloc == server.netloc and time.monotonic() - line.used_at < _IDLE_SECONDS:
                return line
            line.close()
        return Line(server, self._name, until)

    def close(self) -> None:
        """Hang up all idle lines."""
        while self._idle:
            self._idle.pop().close()


def _encode(headers: Mapping[str, str]) -> bytes:
    """Headers on the wire; a line break in a value would end it, and is a space as in the client."""
    lines = [f"{name}: {' '.join(value.splitlines())}\r\n" for name, value in headers.items()]
    return b"".join([_HEADER_START, *(line.encode() for line in lines), b"\r\n"])
