"""Confirmed publishes, many at a time: callers queue up, the loop sends all of them with one write.

One wildcard subscription receives every acknowledgement. A publish without an answer is sent again
with the same Nats-Msg-Id, which the server stores once; at its deadline it fails with Dramatiq's
connection error.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg

from brokers.jetstream.errors import (
    AWAY,
    BATCH_INCOMPLETE,
    MessageTooLargeError,
    connection_error,
    refusal,
)
from brokers.jetstream.loop import bell

if TYPE_CHECKING:
    from brokers.jetstream.connection import Session

log = logging.getLogger(__name__)

_MOST_UNANSWERED = 2000  # well under the 10,000 that a stream lets wait before it refuses more
_RESEND_SECONDS = 3.0
_ELECTION_PAUSE_SECONDS = 0.3  # "no responders" while a stream elects its leader
_UNAVAILABLE = 503
_ID_IN_PROCESS = 10158  # the first try of the same message is being replicated
_TOO_MANY_BATCHES = 10210  # others' are on their way
_ASK_AGAIN = frozenset({_ID_IN_PROCESS, BATCH_INCOMPLETE, _TOO_MANY_BATCHES})
_TICK_SECONDS = 0.1
_HEADER_OVERHEAD = 200  # "NATS/1.0", line ends, and the headers of a commit


class Part(NamedTuple):
    """What is stored as one message of a stream."""

    subject: str
    payload: bytes
    headers: Mapping[str, str]


class Outgoing(NamedTuple):
    """A message to store. A lock is stored in one commit with it, or neither of them is."""

    message: Part
    lock: Part | None = None


class Send:
    """A publish on its way; `settled(sequence, error)` is called once, in the loop.

    `started` is when its time began to run, on the monotonic clock; now without it.
    """

    __slots__ = ("cause", "due", "lock", "message", "sent", "settled", "started")

    def __init__(
        self,
        outgoing: Outgoing,
        settled: Callable[[int, Exception | None], None],
        started: float | None = None,
    ) -> None:
        self.message, self.lock = outgoing
        self.settled = settled
        self.started = time.monotonic() if started is None else started
        self.due = 0.0  # when to send it (again)
        self.sent = False
        self.cause: BaseException | None = None  # why it is not stored yet, in the server's words

    def ask_again(self, cause: BaseException | None = None) -> None:
        """The server cannot store it now: send it again after a pause."""
        self.due = time.monotonic() + _ELECTION_PAUSE_SECONDS
        self.cause = cause or self.cause


class Outcomes:
    """Waits, outside the loop, for a number of publishes, at least one."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._bell = bell()
        self._outcomes: list[Exception | None] = [None] * size

    def settled(self, number: int) -> Callable[[int, Exception | None], None]:
        """What to call, in the loop, when that publish has ended."""

        def settle(_: int, error: Exception | None) -> None:
            self._outcomes[number] = error
            self._left -= 1
            if not self._left:
                self._bell.ring()

        return settle

    def wait(self, seconds: float) -> list[Exception | None]:
        """What became of each; raises TimeoutError."""
        if not self._bell.wait(seconds):
            raise TimeoutError
        self._bell.close()
        return self._outcomes


class Publisher:
    """Sends what callers of any thread submit. Everything but `submit` belongs to the loop thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue: deque[Send] = deque()
        self._unanswered: dict[str, Send] = {}
        self._tokens = itertools.count(1)
        self._woken = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._client: Any = None
        self._inbox = ""
        self._look_at = 0.0  # when to look for late and unanswered ones again
        session.on_connect.append(self._send_all_again)

    def submit(self, sends: Iterable[Send], loop: asyncio.AbstractEventLoop) -> None:
        """Queue messages, in their order, and wake the loop once. From any thread."""
        self._queue.extend(sends)
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._kick)

    def _kick(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._session.spawn(self._run())
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._woken = False
                now = time.monotonic()
                self._expire(now)
                await self._transmit(now)
                self._keep_ticking()
        finally:
            self._fail_all()

    def _keep_ticking(self) -> None:
        if self._timer is None and (self._unanswered or self._queue):
            self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._wake.set()

    def _expire(self, now: float) -> None:
        if now < self._look_at:  # walking over all of them for every answer would cost more than sending
            return
        late = [token for token, send in self._unanswered.items() if self._is_late(send, now)]
        for token in late:
            self._fail(self._unanswered.pop(token))
        while self._queue and self._is_late(self._queue[0], now):
            self._fail(self._queue.popleft())

    def _is_late(self, send: Send, now: float) -> bool:
        options = self._session.options
        if send.sent or self._session.connected_client is not None:
            return now - send.started > options.publish_timeout_seconds
        return now - send.started > options.connect_timeout_seconds

    def _fail(self, send: Send) -> None:
        cause: BaseException | None
        if send.sent:
            action, cause = (
                f"publishing on {send.message.subject}",
                send.cause or TimeoutError("no confirmation"),
            )
        else:
            action, cause = f"connecting to {self._session.shown_servers}", self._session.last_error
        send.settled(0, connection_error(action, cause))

    def _fail_all(self) -> None:
        for send in [*self._unanswered.values(), *self._queue]:
            send.settled(0, connection_error("publishing", nats.errors.ConnectionClosedError()))
        self._unanswered.clear()
        self._queue.clear()

    async def _transmit(self, now: float) -> None:
        client = self._session.connected_client
        if client is None:
            self._session.open()
            return
        if client is not self._client:
            await self._listen(client)
        if now >= self._look_at:
            self._look_at = now + _TICK_SECONDS
            for token, send in [item for item in self._unanswered.items() if item[1].due <= now]:
                await self._send(client, token, send, now)
        while self._queue and len(self._unanswered) < _MOST_UNANSWERED:
            send, token = self._queue.popleft(), str(next(self._tokens))
            self._unanswered[token] = send
            await self._send(client, token, send, now)

    async def _listen(self, client: Any) -> None:
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._client = client

    async def _send(self, client: Any, token: str, send: Send, now: float) -> None:
        send.due = now + _RESEND_SECONDS
        try:
            await self._publish(client, send, f"{self._inbox}.{token}")
            send.sent = True
        except AWAY as error:
            send.ask_again(error)
        except (nats.errors.Error, ValueError, MessageTooLargeError) as error:
            del self._unanswered[token]
            send.settled(0, refusal(send.message.subject, error))

    async def _publish(self, client: Any, send: Send, reply: str) -> None:
        subject, payload, headers = send.message
        _check_size(client.max_payload, payload, headers)
        if send.lock is not None:
            # The lock is the second: the server names the first that it refuses, and a message that was
            # stored before must not look like one whose key another holds by now.
            batch = {"Nats-Batch-Id": uuid.uuid4().hex}
            await client.publish(subject, payload, headers={**headers, **batch, "Nats-Batch-Sequence": "1"})
            subject, payload, headers = send.lock
            headers = {**headers, **batch, "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
        await client.publish(subject, payload, reply, dict(headers) or None)

    async def _answered(self, msg: Msg) -> None:
        token = msg.subject.rpartition(".")[2]
        send = self._unanswered.get(token)
        if send is None:
            return
        if not msg.data:  # the stream is electing its leader, or there is none
            send.ask_again(nats.errors.NoRespondersError())
            return
        answer = json.loads(msg.data)
        error = _api_error(answer["error"]) if "error" in answer else None
        if error is not None and may_take_it_later(error):
            send.ask_again(error)
            return
        del self._unanswered[token]
        if error is not None:
            send.settled(0, refusal(send.message.subject, error))
        else:
            send.settled(int(answer["seq"]), None)
        if self._queue:
            self._wake.set()

    def _send_all_again(self) -> None:
        """After a reconnection nobody knows what arrived; storing again is harmless."""
        self._look_at = 0.0
        for send in self._unanswered.values():
            send.due = 0.0
        if self._unanswered or self._queue:
            self._kick()


def may_take_it_later(error: nats.js.errors.APIError) -> bool:
    """Whether a server that refused a publish, alone or in a batch, may take the same one in a moment."""
    return error.code == _UNAVAILABLE or error.err_code in _ASK_AGAIN


def _api_error(body: dict[str, Any]) -> nats.js.errors.APIError:
    return nats.js.errors.APIError(**body)


def _check_size(most: int, payload: bytes, headers: Mapping[str, str]) -> None:
    """The server counts headers, too, and closes the connection of who sends too much."""
    size = len(payload) + _HEADER_OVERHEAD
    size += sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    if size > most:
        raise MessageTooLargeError(f"{size} bytes with headers are more than the server takes ({most})")
