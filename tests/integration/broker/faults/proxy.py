"""A TCP proxy between a client and its server that can become a bad network.

PASS    everything goes through
DROP    a partition: nothing goes through and nobody is told. What was sent waits, as it would in the
        sender's kernel, and arrives when the network heals.
REFUSE  nobody listens any more; what was connected is cut
RESET   every connection is reset, the new ones too
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum, auto

from tests.integration.broker.server import free_port

_CHUNK = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Mode(Enum):
    PASS = auto()
    DROP = auto()
    REFUSE = auto()
    RESET = auto()


class TcpProxy:
    """Listens on a port of its own and forwards to `target_port`; all on loopback."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.mode = Mode.PASS
        self.accepted = 0  # connections so far
        self._target_port = target_port
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._open = threading.Event()  # set while bytes may pass
        self._open.set()
        self._listener = self._listen()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def set(self, mode: Mode) -> None:
        """Change the network; in force when this returns."""
        with self._lock:
            before, self.mode = self.mode, mode
        if mode is Mode.DROP:
            self._open.clear()
        elif mode is Mode.PASS:
            self._open.set()
        else:
            self.reset_connections()
            self._open.set()
        if mode is Mode.REFUSE:
            _shut(self._listener, socket.SHUT_RDWR)  # wakes accept()
            self._listener.close()
        elif before is Mode.REFUSE:
            self._listener = self._listen()

    def reset_connections(self) -> None:
        """Reset what is connected now; new connections are treated as the mode says."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.reset()

    def close(self) -> None:
        self.set(Mode.REFUSE)

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # REFUSE closed it
                return
            self.accepted += 1
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._open.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(client, server, self._open)
        with self._lock:
            self._links.add(link)
            welcome = self.mode in {Mode.PASS, Mode.DROP}
        if not welcome:
            link.reset()
        link.pump()
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client's connection and ours to the server, and the threads that carry the bytes."""

    def __init__(self, client: socket.socket, server: socket.socket, gate: threading.Event) -> None:
        self._client, self._server, self._gate = client, server, gate
        self._is_reset = False

    def pump(self) -> None:
        """Carry bytes both ways until one side closes or the link is reset."""
        back = threading.Thread(target=self._carry, args=(self._server, self._client), daemon=True)
        back.start()
        self._carry(self._client, self._server)
        back.join()
        self._client.close()
        self._server.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while (data := source.recv(_CHUNK)) and self._may_pass():
                sink.sendall(data)
            self._gate.wait()  # the news of an end is held up like everything else
        except OSError:
            pass
        if not self._is_reset:
            _shut(source, socket.SHUT_RDWR)
            _shut(sink, socket.SHUT_RDWR)

    def _may_pass(self) -> bool:
        self._gate.wait()
        return not self._is_reset

    def reset(self) -> None:
        """Let both sides see a reset; the threads that read wake up and close the sockets."""
        self._is_reset = True
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):  # closed a moment ago
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            _shut(end, socket.SHUT_RD)


def _shut(end: socket.socket, how: int) -> None:
    """End a conversation without closing the file: another thread may be reading from it."""
    with contextlib.suppress(OSError):
        end.shutdown(how)
