"""One event-loop thread per process, and one NATS connection per broker living in it.

The thread is a real one (also under gevent), starts on first use and is forgotten at fork: a child
process opens its own. `Connection` is the synchronous face, `Session` is what lives in the loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from brokers.jetstream.backoff import Backoff
from brokers.jetstream.errors import AWAY, LoginRefusedError, connection_error, missing
from brokers.jetstream.login import login_refused
from brokers.jetstream.loop import LoopThread
from brokers.jetstream.options import BrokerOptions
from brokers.jetstream.publisher import Outcomes, Outgoing, Part, Publisher, Send
from brokers.jetstream.shortcut import Shortcut

T = TypeVar("T")
log = logging.getLogger(__name__)

_REQUEST_SECONDS = 2.0  # one try; a lost answer costs no more than this before it is asked again
_ELECTION_PAUSE_SECONDS = 0.2  # "no responders" while a stream elects its leader


class _Process:
    """What this process has; replaced by an empty one in a forked child."""

    lock = threading.Lock()
    thread: LoopThread | None = None
    connections: ClassVar[weakref.WeakSet[Connection]] = weakref.WeakSet()


def loop_thread() -> LoopThread:
    """The loop thread of this process, started on first use."""
    with _Process.lock:
        if _Process.thread is None:
            _Process.thread = LoopThread()
        return _Process.thread


def _forget_after_fork() -> None:
    _Process.lock = threading.Lock()
    _Process.thread = None
    for connection in list(_Process.connections):
        connection.forget()


os.register_at_fork(after_in_child=_forget_after_fork)


class Session:
    """The NATS client and everything that must run in the loop. All methods belong to the loop thread."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.generation = 0  # grows with every (re)connection
        self.on_connect: list[Callable[[], None]] = []
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._outage_logged = False
        self._refused: LoginRefusedError | None = None
        self._closed = False
        self._backoff = Backoff(options)
        self._connected_at = 0.0
        self.publisher = Publisher(self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` beside everything else, keep a reference until it ends, and log what it raises."""
        task = asyncio.get_running_loop().create_task(work, name=getattr(work, "__qualname__", None))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Nobody waits for most tasks: what one dies of would be told to no one."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or (self._closed and isinstance(error, nats.errors.ConnectionClosedError)):
            return
        log.error("Background task %s died.", task.get_name(), exc_info=error)

    async def client(self, timeout_seconds: float | None = None) -> Any:
        """The connected client; raises ConnectionFailed when there is none within the time."""
        if self.connected_client is not None:
            return self._client
        wait = self.options.connect_timeout_seconds if timeout_seconds is None else timeout_seconds
        try:
            self.open()
            await asyncio.wait_for(self._up.wait(), wait)
        except TimeoutError:
            raise connection_error(f"connecting to {self.shown_servers}", self.last_error) from None
        except nats.errors.ConnectionClosedError as error:
            raise connection_error(f"connecting to {self.shown_servers}", error) from error
        return self._client

    @property
    def connected_client(self) -> Any:
        """The client if it is connected now, else None."""
        client = self._client
        return client if client is not None and client.is_connected else None

    @property
    def last_error(self) -> BaseException | None:
        """What the client ran into last, or why the server did not let it in: that tells more."""
        if self._refused is not None:
            return self._refused
        return self._client.last_error if self._client is not None else None

    async def connected(self) -> Any:
        """The connected client, however long that takes."""
        while True:
            self.open()
            await self._up.wait()
            if self.connected_client is not None:
                return self._client
            self._up.clear()

    def open(self) -> None:
        """Begin to connect unless that has begun already; reconnecting goes on for ever.

        Raises ConnectionClosedError when the session was closed: what outlives that must not bring
        back a connection that nobody looks after.
        """
        if self._closed:
            raise nats.errors.ConnectionClosedError
        if self._client is not None and not self._client.is_closed:
            return
        if self._opening is None or self._opening.done():
            self._up.clear()
            self._opening = self.spawn(self._connect())

    async def _connect(self) -> None:
        """The client itself tries again, but not what it cannot even send: a seed that signs nothing, say."""
        while True:
            self._client = client = Client()
            try:
                await self._connect_once(client)
            except Exception as error:  # noqa: BLE001 (told, and tried for ever)
                await self._on_error(error)
                await client.close()
                await asyncio.sleep(self._backoff.next())
            else:
                return await self._on_reconnect()

    async def _connect_once(self, client: Any) -> None:
        await client.connect(
            list(self.options.server_urls),
            name=self.options.client_name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=self._backoff.next(),
            connect_timeout=self.options.connect_timeout_seconds,
            tls=self.options.tls_context(),
            user_credentials=self.options.credentials_file,
            # Nothing is buffered for later: what fails now must not be sent after its caller gave up.
            pending_size=0,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_disconnect,
        )

    async def _on_reconnect(self) -> None:
        self.generation += 1
        self._connected_at = time.monotonic()
        self._backoff.reset()
        if self._outage_logged:
            log.warning("Connected to NATS again.")
        self._outage_logged, self._refused = False, None
        self._up.set()
        for callback in self.on_connect:
            callback()

    async def _on_disconnect(self) -> None:
        self._up.clear()

    async def _on_error(self, error: Exception) -> None:
        level = logging.DEBUG if self._outage_logged else logging.WARNING
        self._outage_logged = True
        if self._client is not None and not self._client.is_connected:
            self._client.options["reconnect_time_wait"] = self._backoff.next()  # read before each try
        self._refused = login_refused(self.options, error) or self._refused
        shown = self._refused or error
        log.log(level, "NATS connection to %s: %s: %s", self.shown_servers, type(error).__name__, shown)

    @property
    def just_back(self) -> bool:
        """Whether we are connected anew so recently that others may not be so yet."""
        longest = self.options.max_reconnect_seconds * 1.5
        return self.generation > 1 and time.monotonic() - self._connected_at < longest

    @property
    def shown_servers(self) -> str:
        """The servers without user names, passwords and tokens."""
        return ", ".join(url.rsplit("@", 1)[-1].removeprefix("nats://") for url in self.options.server_urls)

    async def request(
        self, subject: str, payload: bytes, *, action: str, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A JSON answer to a request, asked again until publish_timeout_seconds are over.

        Raises ConnectionFailed, or the server's own APIError (NotFoundError, …).
        """
        deadline = time.monotonic() + self.options.publish_timeout_seconds
        while True:
            try:
                client = await self.client()
                left = max(0.05, min(_REQUEST_SECONDS, deadline - time.monotonic()))
                answer = json.loads((await client.request(subject, payload, left, headers=headers)).data)
                if "error" in answer:
                    raise nats.js.errors.APIError.from_error(answer["error"])
            except AWAY as error:
                if time.monotonic() + _ELECTION_PAUSE_SECONDS >= deadline:
                    raise connection_error(action, error) from error
                await asyncio.sleep(_ELECTION_PAUSE_SECONDS)
            else:
                return dict(answer)

    async def api(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the JetStream API; `name` is the rest of its subject, such as STREAM.INFO.ORDERS.

        Raises as `request`, but TopologyError when the stream or consumer is missing.
        """
        payload = json.dumps(body).encode() if body else b""
        try:
            return await self.request(f"$JS.API.{name}", payload, action=f"JetStream {name}")
        except nats.js.errors.NotFoundError as error:
            raise missing(name, error) from error

    async def holds(self, stream: str, sequence: int) -> bool:
        """Whether a stream has a message under that sequence (still)."""
        try:
            await self.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        except nats.js.errors.NotFoundError:
            return False
        return True

    async def delete(self, stream: str, sequence: int) -> bool:
        """Remove one message; False when it was not there (any more)."""
        try:
            await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})
        except nats.js.errors.APIError:  # one code for all that can go wrong
            if await self.holds(stream, sequence):
                raise
            return False
        return True

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> int:
        """Store a message and return its sequence; safe to repeat when it carries a Nats-Msg-Id."""
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[int] = loop.create_future()

        def settled(sequence: int, error: Exception | None) -> None:
            if stored.done():
                return
            if error is None:
                stored.set_result(sequence)
            else:
                stored.set_exception(error)

        self.publisher.submit([Send(Outgoing(Part(subject, payload, headers)), settled)], loop)
        return await stored

    async def close(self) -> None:
        """Stop everything of this session, for good."""
        self._closed = True
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        if self._client is not None and not self._client.is_closed:
            await self._client.close()


class Connection:
    """The synchronous face of a session, usable from any thread or greenlet of any process."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._shortcut = Shortcut(options.client_name)
        _Process.connections.add(self)

    def forget(self) -> None:
        """Called in a forked child: the parent's loop, socket and locks are not ours."""
        self._lock = threading.Lock()
        self._shortcut.close()  # our copies of the parent's sockets
        self._shortcut = Shortcut(self.options.client_name)
        self._session = None

    @property
    def current(self) -> Session | None:
        """The session of this process, if it has one."""
        return self._session

    def session(self) -> Session:
        """The session of this process, created on first use (it connects when it must)."""
        with self._lock:
            if self._session is None:
                self._session = Session(self.options)
            return self._session

    def run(self, work: Coroutine[Any, Any, T], *, timeout_seconds: float | None = None) -> T:
        """Run a coroutine in the loop and wait for it; ConnectionFailed when that takes too long."""
        thread = loop_thread()
        if thread.is_current():
            work.close()
        self._refuse_inside(thread)
        limit = timeout_seconds or self.options.longest_call_seconds
        try:
            return thread.run(work, limit)
        except TimeoutError as error:
            raise connection_error("waiting for the broker", error) from error

    def publish(self, outgoing: Sequence[Outgoing]) -> list[Exception | None]:
        """Store messages in this order, many on the way at a time.

        Returns one entry per message: None when it is stored and confirmed, or why it is not:
        Dramatiq's connection errors (then it may be stored), PublishRefusedError, MessageTooLargeError.
        """
        thread, started = loop_thread(), time.monotonic()
        self._refuse_inside(thread)
        outcomes: list[Exception | None] = [None] * len(outgoing)
        rest = [number for number, stored in enumerate(self._by_shortcut(outgoing)) if not stored]
        if not rest:
            return outcomes
        batch = Outcomes(len(rest))
        sends = [Send(outgoing[number], batch.settled(at), started) for at, number in enumerate(rest)]
        self.session().publisher.submit(sends, thread.loop)
        try:
            errors = batch.wait(self.options.longest_call_seconds)
        except TimeoutError as error:
            errors = [connection_error("waiting for the broker", error)] * len(rest)
        for number, error_of_one in zip(rest, errors, strict=True):
            outcomes[number] = error_of_one
        return outcomes

    def _by_shortcut(self, outgoing: Sequence[Outgoing]) -> list[bool]:
        client = self._session.connected_client if self._session is not None else None
        server = client.connected_url if client is not None else None
        if server is None or not self.options.plain_login or any(one.lock is not None for one in outgoing):
            return [False] * len(outgoing)
        parts = [one.message for one in outgoing]
        return self._shortcut.try_to_publish(server, parts, self.options.publish_timeout_seconds)

    def _refuse_inside(self, thread: LoopThread) -> None:
        if thread.is_current():
            raise RuntimeError("a callback inside the broker's event loop must not wait for the broker")

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the loop without waiting for it."""
        thread, session = loop_thread(), self.session()
        thread.loop.call_soon_threadsafe(lambda: session.spawn(work))

    def close(self) -> None:
        """Close the connection, if this process opened one. Never raises."""
        with self._lock:
            session, self._session = self._session, None
            self._shortcut.close()
        if session is None:
            return
        try:
            self.run(session.close(), timeout_seconds=self.options.close_timeout_seconds)
        except Exception:  # closing is best effort: the process is about to end
            log.debug("Closing the NATS connection failed.", exc_info=True)
