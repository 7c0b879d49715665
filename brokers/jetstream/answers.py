"""What became of held messages (+ACK, -NAK, +TERM), told to the server in bulk and confirmed.

The server handles the answers of one connection in order. So only the last of a bulk asks for a
confirmation, and no more than ten of a second do: when one comes, all earlier answers of that consumer
were handled, too. What stays unconfirmed, or was sent over a connection that broke, is sent again;
repeating an answer is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg

from brokers.jetstream.errors import AWAY
from brokers.jetstream.message import Delivery

if TYPE_CHECKING:
    from brokers.jetstream.connection import Session

log = logging.getLogger(__name__)

_RESEND_SECONDS = 2.0
_TICK_SECONDS = 0.5
_ACK = b"+ACK"
_ASK_SECONDS = 0.1  # a confirmation costs both sides as much as the answer
_SHORTEST_PATIENCE_SECONDS = 30.0


@dataclass(slots=True)
class _Answer:
    number: int
    delivery: Delivery
    content: bytes
    until: float  # after ack_wait the server gives the message away anyhow
    sent_at: float = 0.0


class _Consumer:
    """The answers of one consumer, oldest first: `unsent` follow `unconfirmed`."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.unsent: deque[_Answer] = deque()
        self.unconfirmed: deque[_Answer] = deque()
        self._asked, self._asked_at = 0, 0.0  # the newest answer that asked for a confirmation

    def asks(self, answer: _Answer, now: float) -> bool:
        """Whether an answer that is sent now asks for a confirmation."""
        if len(self.unsent) > 1 or (answer.content == _ACK and now - self._asked_at < _ASK_SECONDS):
            return False
        self._asked, self._asked_at = answer.number, now
        return True

    def ask(self) -> bool:
        """Have the next answer ask, or the newest once more if it did not; True when one is to be sent.

        That one is always an ack. To give a message back twice could take it from who has it by then.
        """
        self._asked_at = 0.0
        if not self.unsent and self.unconfirmed and self.unconfirmed[-1].number > self._asked:
            self.unsent.append(self.unconfirmed.pop())
        return bool(self.unsent)

    def confirm(self, number: int) -> None:
        while self.unconfirmed and self.unconfirmed[0].number <= number:
            self.unconfirmed.popleft()

    def send_again(self) -> None:
        self.unsent.extendleft(reversed(self.unconfirmed))
        self.unconfirmed.clear()
        self._asked_at = 0.0

    def give_up(self, now: float) -> None:
        for waiting in (self.unconfirmed, self.unsent):
            while waiting and waiting[0].until < now:
                lost = waiting.popleft()
                log.warning("%s for message %s was never confirmed.", lost.content.decode(), lost.delivery)


class Answers:
    """Answers of one process. Everything belongs to the loop thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._consumers: dict[tuple[str, str], _Consumer] = {}
        self._by_index: list[_Consumer] = []
        self._count = 0
        self._wake = asyncio.Event()
        self._all_confirmed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._client: Any = None
        self._inbox = ""
        session.on_connect.append(self._send_all_again)
        session.spawn(self._run())

    def put(self, delivery: Delivery, content: bytes) -> None:
        """Tell the server, soon."""
        self._count += 1
        patience = max(delivery.spec.ack_wait_seconds, _SHORTEST_PATIENCE_SECONDS)
        answer = _Answer(self._count, delivery, content, time.monotonic() + patience)
        self._consumer(delivery).unsent.append(answer)
        self._all_confirmed.clear()
        self._wake.set()

    def _consumer(self, delivery: Delivery) -> _Consumer:
        key = (delivery.spec.stream, delivery.spec.name)
        if key not in self._consumers:
            self._consumers[key] = _Consumer(len(self._by_index))
            self._by_index.append(self._consumers[key])
        return self._consumers[key]

    async def confirmed(self, timeout_seconds: float) -> None:
        """Wait until the server has confirmed every answer, or the time is over."""
        if self._outstanding():
            self._ask_all()
            await asyncio.wait_for(self._all_confirmed.wait(), timeout_seconds)

    def _outstanding(self) -> bool:
        return any(consumer.unsent or consumer.unconfirmed for consumer in self._by_index)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            client = await self._session.connected()
            try:
                await self._flush(client)
            except AWAY:
                self._send_all_again()
            except Exception:  # unsent answers would be sent by nobody
                log.exception("Answers could not be sent; they are sent again.")
                self._send_all_again()
                await asyncio.sleep(_TICK_SECONDS)
            if self._timer is None and self._outstanding():
                self._timer = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    async def _flush(self, client: Any) -> None:
        if client is not self._client:
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*.*", cb=self._confirmed)
            self._client = client
        for consumer in self._by_index:
            while consumer.unsent:
                answer, now = consumer.unsent[0], time.monotonic()
                asks = consumer.asks(answer, now)
                reply = f"{self._inbox}.{consumer.index}.{answer.number}" if asks else ""
                await client.publish(answer.delivery.reply, answer.content, reply)
                answer.sent_at = now
                consumer.unconfirmed.append(consumer.unsent.popleft())

    async def _confirmed(self, msg: Msg) -> None:
        if (msg.headers or {}).get("Status"):
            return  # "no responders": the consumer has no leader now; the tick sends again
        index, number = msg.subject.split(".")[-2:]
        self._by_index[int(index)].confirm(int(number))
        if not self._outstanding():
            self._all_confirmed.set()

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for consumer in self._by_index:
            consumer.give_up(now)
            if consumer.unconfirmed and now - consumer.unconfirmed[-1].sent_at > _RESEND_SECONDS:
                consumer.send_again()
        self._ask_all()
        if self._outstanding():
            self._wake.set()
        else:
            self._all_confirmed.set()

    def _ask_all(self) -> None:
        for consumer in self._by_index:
            if consumer.ask():
                self._wake.set()

    def _send_all_again(self) -> None:
        for consumer in self._by_index:
            consumer.send_again()
        self._wake.set()
