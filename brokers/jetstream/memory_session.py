"""The stub twin's connection: what the broker's parts call on a session, answered by a Memory."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import nats.errors
import nats.js.errors
from dramatiq.errors import BrokerError
from nats.aio.msg import Msg
from nats.js import api

from brokers.jetstream.browse import Stored
from brokers.jetstream.connection import Connection, Session
from brokers.jetstream.errors import AWAY, connection_error, refusal
from brokers.jetstream.memory import Memory
from brokers.jetstream.memory_api import MemoryApi
from brokers.jetstream.memory_events import matches
from brokers.jetstream.options import BrokerOptions
from brokers.jetstream.publisher import Part, Publisher, Send, _check_size

Hear = Callable[[Msg], Awaitable[None]]

_MAX_PAYLOAD = 1_048_576  # the server's default
_DIRECT_GET = "$JS.API.DIRECT.GET."
_NEXT = "$JS.API.CONSUMER.MSG.NEXT."


class MemoryConnection(Connection):
    """A connection that reaches no server, even if one happens to run."""

    def __init__(self, options: BrokerOptions, memory: Memory) -> None:
        super().__init__(options)
        self._memory = memory

    def session(self) -> Session:
        """The session of this process, created on first use."""
        with self._lock:
            if self._session is None:
                self._session = MemorySession(self.options, self._memory)
            return self._session


class MemorySession(Session):
    """A session whose server is a Memory. What coroutines call belongs to the loop thread."""

    def __init__(self, options: BrokerOptions, memory: Memory) -> None:
        super().__init__(options)
        self._memory = memory
        self._api = MemoryApi(memory)
        self.publisher = MemoryPublisher(memory)

    async def client(self, timeout_seconds: float | None = None) -> Any:  # noqa: ARG002 (nothing to wait for)
        """Something like a connected client; raises ConnectionFailed while the twin is away."""
        if self._memory.away:
            raise connection_error("connecting", None)
        return MemoryClient(self._memory, self._api)

    async def connected(self) -> Any:
        """The same."""
        return await self.client()

    async def api(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the part of the JetStream API that the broker uses."""
        if self._memory.away:
            raise connection_error(f"JetStream {name}", None)
        return self._api.call(name, body or {})


class MemoryPublisher(Publisher):
    """Stores in the caller's thread, at once."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def submit(self, sends: Iterable[Send], loop: asyncio.AbstractEventLoop) -> None:  # noqa: ARG002
        """Store messages in their order."""
        for send in sends:
            parts = [send.message] if send.lock is None else [send.lock, send.message]
            try:
                send.settled(self._keep(parts), None)
            except AWAY as error:
                send.settled(0, connection_error(f"publishing on {send.message.subject}", error))
            except nats.js.errors.APIError as error:
                send.settled(0, refusal(send.message.subject, error))
            except BrokerError as error:
                send.settled(0, error)

    def _keep(self, parts: list[Part]) -> int:
        if self._memory.away:
            raise connection_error("the stub broker is away", None)
        _check_size(_MAX_PAYLOAD, parts[-1].payload, parts[-1].headers)
        return self._memory.publish(parts)


class MemoryClient:
    """As much of nats.aio.client.Client as the broker's parts use beside the session's own methods."""

    max_payload = _MAX_PAYLOAD

    def __init__(self, memory: Memory, api_: MemoryApi) -> None:
        self._memory, self._api = memory, api_
        self._subscriptions: dict[str, _Subscription] = {}
        self._readers: dict[str, _Reader] = {}

    def jetstream(self) -> MemoryClient:
        """Itself."""
        return self

    async def get_last_msg(self, stream: str, subject: str) -> api.RawStreamMsg:
        """The newest message of a subject; raises NotFoundError."""
        found = self._memory.streams[stream].last_on(subject)
        if found is None:
            raise nats.js.errors.NotFoundError(404, "no message found")
        return api.RawStreamMsg(
            subject=found.subject, seq=found.sequence, data=found.payload, headers=found.headers
        )

    def new_inbox(self) -> str:
        """A subject of the caller's own."""
        return f"_INBOX.{uuid.uuid4().hex}"

    async def subscribe(self, subject: str, cb: Hear | None = None) -> _Subscription:
        """Hear what is stored on a subject from now on."""
        self._subscriptions[subject] = _Subscription(self._memory, subject, cb)
        return self._subscriptions[subject]

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """A part of a batch, or what one reads with; what is for other processes is heard by nobody."""
        if headers is not None and "Nats-Batch-Id" in headers:
            self._api.batch(headers["Nats-Batch-Id"]).append(Part(subject, payload, headers))
        elif subject.startswith(_DIRECT_GET):
            found = self._api.last_of(subject.removeprefix(_DIRECT_GET), json.loads(payload)["multi_last"])
            for part in found:
                self._memory.tell(Part(reply, part.payload, part.headers))
        elif subject.startswith(_NEXT):
            stream, consumer = subject.removeprefix(_NEXT).split(".")
            for msg in self._next(stream, consumer, json.loads(payload)["batch"]):
                self._subscriptions[reply].put(msg or _message(reply, headers={"Status": "408"}))

    def _next(self, stream: str, consumer: str, most: int) -> Iterator[Msg | None]:
        """What a consumer that was made for reading hands out, and None where that is less than asked for."""
        if consumer not in self._readers:
            self._readers[consumer] = _Reader(stream, self._api.reader(consumer))
        batch = self._readers[consumer].next(most)
        yield from batch
        if len(batch) < most:
            yield None

    async def request(
        self,
        subject: str,
        payload: bytes,
        _timeout: float,
        *,
        headers: Mapping[str, str],
    ) -> Any:
        """The last part of a batch: all of it is stored, or nothing."""
        parts = [*self._api.batch(headers["Nats-Batch-Id"], ended=True), Part(subject, payload, headers)]
        for part in parts:
            if len(part.payload) > _MAX_PAYLOAD:
                raise nats.errors.MaxPayloadError
        try:
            answer: dict[str, Any] = {"seq": self._memory.publish(parts)}
        except nats.js.errors.APIError as error:
            answer = {
                "error": {"code": error.code, "err_code": error.err_code, "description": error.description}
            }
        return SimpleNamespace(data=json.dumps(answer).encode())


class _Subscription:
    """What was stored on a subject, on its way to whoever hears it. Belongs to the loop thread."""

    def __init__(self, memory: Memory, subject: str, cb: Hear | None) -> None:
        self._memory, self._subject, self._cb = memory, subject, cb
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Msg] = asyncio.Queue()
        self._told: set[asyncio.Task[None]] = set()
        memory.listeners.append(self._hear)

    def _hear(self, part: Part) -> None:
        if matches(self._subject, part.subject):
            msg = _message(part.subject, payload=part.payload, headers=part.headers)
            self._loop.call_soon_threadsafe(self.put, msg)

    def put(self, msg: Msg) -> None:
        """Let it be heard."""
        if self._cb is None:
            self._waiting.put_nowait(msg)
            return
        task = self._loop.create_task(self._tell(self._cb, msg))
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _tell(self, cb: Hear, msg: Msg) -> None:
        await cb(msg)

    async def next_msg(self, timeout: float) -> Msg:  # noqa: ASYNC109 (nats-py's signature)
        """The next message; raises TimeoutError."""
        return await asyncio.wait_for(self._waiting.get(), timeout)

    async def unsubscribe(self) -> None:
        """Hear no more."""
        self._memory.listeners.remove(self._hear)


class _Reader:
    """Hands out headers as a pull consumer without acknowledgements does."""

    def __init__(self, stream: str, messages: Sequence[Stored]) -> None:
        self._stream, self._messages = stream, messages
        self._numbers = itertools.count()

    def next(self, most: int) -> list[Msg]:
        """Up to so many messages."""
        batch, self._messages = self._messages[:most], self._messages[most:]
        left = range(len(self._messages) + len(batch) - 1, -1, -1)
        return [self._message(stored, pending) for stored, pending in zip(batch, left, strict=False)]

    def _message(self, stored: Stored, pending: int) -> Msg:
        stamp = round(stored.stored_at.timestamp() * 1e9)
        reply = f"$JS.ACK.{self._stream}.reader.1.{stored.sequence}.{next(self._numbers)}.{stamp}.{pending}"
        return _message(stored.subject, reply, headers=stored.headers)


def _message(
    subject: str, reply: str = "", *, payload: bytes = b"", headers: Mapping[str, str] | None = None
) -> Msg:
    return Msg(None, subject, reply, payload, dict(headers or {}))  # type: ignore[arg-type]  # no client
