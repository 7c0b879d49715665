"""What stands before web servers that come and go: new connections go to the one that is in service."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self


class Balancer:
    """Carries bytes between each client and the server that it was connected to. Listens on `port`."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port  # where new connections go
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                thread = threading.Thread(target=self._carry, args=(client, self.server_port), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket, port: int) -> None:
        connected = socket.create_connection(("127.0.0.1", port))
        with (
            client, connected as server, selectors.DefaultSelector() as waiting,
            contextlib.suppress(ConnectionError),
        ):  # fmt: skip
            waiting.register(client, selectors.EVENT_READ, server)
            waiting.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in waiting.select(timeout=60):
                    if not (data := key.fileobj.recv(65_536)):  # type: ignore[union-attr]
                        return
                    key.data.sendall(data)
