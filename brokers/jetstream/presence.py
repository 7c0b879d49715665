"""Who is there, and what each one holds: how a dead worker is noticed in seconds, not in ack_wait.

Every worker answers on a subject of its own while its connection lives, and is written into the
queue's stream (the roster) while it works. A worker in the roster whose subject nobody listens to is
gone: the server knows that from its connection, so a process that is merely busy, even one whose
native code holds the GIL, is never taken for dead.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import TRY_LATER
from brokers.jetstream.message import worker_name
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.topology import presence_subject, roster_subject

log = logging.getLogger(__name__)

EVERYBODY = "all"  # in place of a worker's id: all of them look for work anew
_ANSWER_SECONDS = 1.0
_PAUSE_SECONDS = 2.0


@dataclass
class RollCall:
    """Answers of the workers in the roster: sequences that they hold, who is gone, who says nothing."""

    held: set[int] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)


class Presence:
    """One worker process at one queue. All methods belong to the loop thread."""

    def __init__(
        self,
        session: Session,
        spec: QueueSpec,
        held: Callable[[], list[int]],
        woken: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self._session, self._spec, self._held, self._woken = session, spec, held, woken

    def _roster(self, worker: str) -> str:
        return roster_subject(self._session.options, self._spec.name, worker)

    async def show(self) -> None:
        """Answer roll calls and write ourselves into the roster; in this order, or we would seem gone."""
        while True:
            try:
                client = await self._session.connected()
                subject = presence_subject(self._session.options, self._spec.name, self.id)
                await client.subscribe(subject, cb=self._answer)
                everybody = presence_subject(self._session.options, self._spec.name, EVERYBODY)
                await client.subscribe(everybody, cb=self._wake)
                headers = {"Nats-Msg-Id": f"roster:{self._spec.name}:{self.id}", "Nats-TTL": "never"}
                body = json.dumps({"worker": worker_name()}).encode()
                await self._session.publish(self._roster(self.id), body, headers)
            except TRY_LATER as error:
                log.debug("Not in the roster of %s yet: %s", self._spec.name, error)
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _answer(self, msg: Msg) -> None:
        await msg.respond(json.dumps(self._held()).encode())

    async def _wake(self, _: Msg) -> None:
        if self._woken is not None:
            await self._woken()

    async def leave(self) -> None:
        """Strike us off the roster; whoever cannot is struck off by others later."""
        try:
            await self.strike_off(self.id)
        except TRY_LATER as error:
            log.debug("Still in the roster of %s: %s", self._spec.name, error)

    async def strike_off(self, worker: str) -> None:
        """Remove a worker from the roster."""
        await self._session.api(f"STREAM.PURGE.{self._spec.stream}", {"filter": self._roster(worker)})

    async def call_roll(self) -> RollCall:
        """Ask every worker in the roster what it holds."""
        filter_ = {"subjects_filter": self._roster("*")}
        info = await self._session.api(f"STREAM.INFO.{self._spec.stream}", filter_)
        workers = [subject.rpartition(".")[2] for subject in info["state"].get("subjects") or {}]
        client = await self._session.client()
        roll = RollCall()
        await asyncio.gather(*(self._ask(client, worker, roll) for worker in workers))
        return roll

    async def _ask(self, client: Any, worker: str, roll: RollCall) -> None:
        subject = presence_subject(self._session.options, self._spec.name, worker)
        try:
            answer = await client.request(subject, b"", _ANSWER_SECONDS)
            roll.held.update(json.loads(answer.data))
        except nats.errors.NoRespondersError:
            roll.gone.add(worker)
        except TRY_LATER:
            roll.silent.add(worker)
