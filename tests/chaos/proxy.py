"""A TCP proxy before each server: it can be slow, swallow everything, answer 500, or stop in mid-answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

SERVERS = {
    "nats": "NATS_URL",
    "postgres": "DATABASE_URL",
    "s3": "AWS_ENDPOINT_URL",
    "vector": "QDRANT_URL",
    "tika": "TIKA_SERVER_ENDPOINT",
    "identity": "OIDC_ISSUER_URL",
}
Mode = Literal["pass", "slow", "hole", "error", "half"]
_LOOK_SECONDS = 0.05
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Proxy:
    """One server's proxy; `mode` may be changed at any time and counts for open connections, too."""

    target: int
    port: int = 0
    mode: Mode = "pass"
    delay_seconds: float = 0.5  # of every piece of data, in mode "slow"

    async def listen(self) -> None:
        """Take connections on a free port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._copy(reader, far_writer, back=writer)),
            asyncio.create_task(self._copy(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()

    async def _copy(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        back: asyncio.StreamWriter | None = None,
    ) -> None:
        """Until either end closes. `back` is the client's end, on the way from the client to the server."""
        while data := await source.read(65536):
            while self.mode == "hole":  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(_LOOK_SECONDS)
            if self.mode == "slow":
                await asyncio.sleep(self.delay_seconds)
            elif self.mode == "error" and back is not None:
                back.write(_ERROR)
                await back.drain()
                return
            elif self.mode == "half" and back is None:
                sink.write(data[: len(data) // 2])
                await sink.drain()
                return
            sink.write(data)
            await sink.drain()


@contextmanager
def proxies(environment: Mapping[str, str]) -> Iterator[dict[str, Proxy]]:
    """A proxy before every server that `environment` names but a cluster, in a thread of their own."""
    made = {
        name: Proxy(urlsplit(environment[variable]).port or 0)
        for name, variable in SERVERS.items()
        if "," not in environment[variable]
    }
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # a connection that broke is the point of it
    thread = threading.Thread(target=loop.run_forever, name="proxies", daemon=True)
    thread.start()
    for proxy in made.values():
        asyncio.run_coroutine_threadsafe(proxy.listen(), loop).result(10)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def through(environment: Mapping[str, str], made: Mapping[str, Proxy]) -> dict[str, str]:
    """The settings, with every server's address replaced by its proxy's."""
    replaced = {
        SERVERS[name]: environment[SERVERS[name]].replace(f":{proxy.target}", f":{proxy.port}")
        for name, proxy in made.items()
    }
    return {**environment, **replaced}
