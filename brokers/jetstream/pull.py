"""A lingering pull: messages arrive as they come, but never more than there is room for.

Requests stay open at the server; `wanted` says how much more to ask for. Credit that the server
gave up (expiry, leader change, reconnection, silence) is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY

log = logging.getLogger(__name__)

_EXPIRES_SECONDS = 30.0
_IDLE_HEARTBEAT_SECONDS = 5.0
_SILENCE_SECONDS = 20.0
_STOP_SECONDS = 2.0
_NO_CONSUMER_PAUSE_SECONDS = 1.0
_NOT_DRAINED: tuple[type[BaseException], ...] = (*AWAY, asyncio.CancelledError, nats.errors.Error)


class Pull:
    """Feeds `on_message` from a pull consumer.

    `wanted(outstanding)` says how many more messages to ask for when `outstanding` were asked for
    and have not come yet; 0 for none.
    """

    def __init__(
        self,
        session: Session,
        stream: str,
        consumer: str,
        *,
        wanted: Callable[[int], int],
        on_message: Callable[[Msg], None],
    ) -> None:
        self._session = session
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._name = f"{stream}/{consumer}"
        self._wanted, self._on_message = wanted, on_message
        self._outstanding = 0
        self._requests = 0
        self._generation = 0
        self._heard = time.monotonic()
        self._wake = asyncio.Event()
        self._withdrawn = asyncio.Event()  # cleared: withdraw what is open
        self._stopping = False
        self._pausing = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.missing = asyncio.Event()  # the server said that there is no such consumer

    def wake(self) -> None:
        """More may be wanted."""
        if not self._wake.is_set() and self._wanted(self._outstanding) > 0:
            self._wake.set()

    @property
    def is_open(self) -> bool:
        """Whether messages that were asked for may still come."""
        return self._outstanding > 0

    async def withdraw(self) -> None:
        """Take open requests back and ask anew for what is wanted now.

        Also what helps after a pause was ended: the server looks only at new requests then.
        """
        self._withdrawn.clear()
        self._wake.set()
        with contextlib.suppress(TimeoutError):  # disconnected: then nothing is open
            await asyncio.wait_for(self._withdrawn.wait(), 2 * _STOP_SECONDS)

    def start(self) -> None:
        """Begin to pull; goes on until stopped, through any number of reconnections."""
        self._session.on_connect.append(self._wake.set)
        self._task = self._session.spawn(self._run())
        self._tick()

    def _tick(self) -> None:
        """Look at the clock now and then, for credit that was lost silently."""
        self._timer = asyncio.get_running_loop().call_later(_IDLE_HEARTBEAT_SECONDS, self._tick)
        self._wake.set()

    async def stop(self) -> None:
        """Take no more. What the server has sent already still reaches `on_message` before this returns."""
        self._stopping = True
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=2 * _STOP_SECONDS)
            self._session.on_connect.remove(self._wake.set)
            self._task = None

    async def _run(self) -> None:
        try:
            await self._go_on()
        finally:
            self._withdrawn.set()
            if self._timer is not None:
                self._timer.cancel()

    async def _go_on(self) -> None:
        while not self._stopping:
            client = await self._session.connected()
            inbox = client.new_inbox()
            subscription = await client.subscribe(f"{inbox}.*", cb=self._receive)
            self._outstanding = 0
            self._withdrawn.set()
            try:
                await self._pull_on(client, inbox)
            finally:
                await self._unsubscribe(subscription)

    async def _pull_on(self, client: Any, inbox: str) -> None:
        while self._withdrawn.is_set() and not self._stopping and not client.is_closed:
            self._forget_lost_credit()
            self._wake.clear()
            try:
                if self._pausing:
                    await asyncio.sleep(_NO_CONSUMER_PAUSE_SECONDS)
                    self._pausing = False
                await self._top_up(client, inbox)
                await self._wake.wait()
            except AWAY:
                await self._session.connected()

    def _forget_lost_credit(self) -> None:
        silent = time.monotonic() - self._heard > _SILENCE_SECONDS
        if silent or self._generation != self._session.generation:
            self._generation = self._session.generation
            self._outstanding = 0
            self._heard = time.monotonic()

    async def _top_up(self, client: Any, inbox: str) -> None:
        batch = self._wanted(self._outstanding)
        if batch <= 0:
            return
        body = {
            "batch": batch,
            "expires": int(_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(_IDLE_HEARTBEAT_SECONDS * 1e9),
        }
        self._requests += 1
        await client.publish(self._subject, json.dumps(body).encode(), reply=f"{inbox}.{self._requests}")
        self._outstanding += batch

    async def _receive(self, msg: Msg) -> None:
        self._heard = time.monotonic()
        status = (msg.headers or {}).get("Status") if not msg.reply.startswith("$JS.ACK.") else None
        if status is None:
            self._outstanding = max(0, self._outstanding - 1)
            self._on_message(msg)
            return  # what was on its way is held now: no more is wanted than before
        if status != "100":
            self._request_ended(status, msg.headers or {})
        self.wake()

    def _request_ended(self, status: str, headers: dict[str, str]) -> None:
        unused = headers.get("Nats-Pending-Messages", "")
        self._outstanding = max(0, self._outstanding - int(unused)) if unused.isdigit() else 0
        description = headers.get("Description", "")
        if status == "503" or "Deleted" in description:
            log.warning(
                "There is no consumer %s (%s %s): are the streams applied?", self._name, status, description
            )
            self._pausing = True
            self.missing.set()

    async def _unsubscribe(self, subscription: Any) -> None:
        """Withdraw the requests, yet hear what is on its way: it would wait for ack_wait otherwise."""
        try:
            await asyncio.wait_for(subscription.drain(), _STOP_SECONDS)
        except _NOT_DRAINED:
            log.debug("The pull of %s was not drained.", self._name, exc_info=True)
