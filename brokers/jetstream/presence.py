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
    """Answers of the workers in the roster: sequences that each holds, who is gone, who says nothing."""

    answers: dict[str, set[int]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)

    @property
    def held(self) -> set[int]:
        """What all that answered hold."""
        return set().union(*self.answers.values())


class Presence:
    """One worker process at one queue. All methods belong to the loop thread."""

    def __init__(
        self,
        session: Session,
        spec: QueueSpec,
        held: Callable[[], list[int]],
        woken: Callable[[], Awaitable[None]] | None = None,
        threads: int | None = None,
    ) -> None:
        self.id = uuid.uuid4().hex
        version = session.options.version
        self._about = {"worker": worker_name(), "threads": threads, "version": version}
        self._session, self._spec, self._held, self._woken = session, spec, held, woken
        self._client: Any = None
        self._subscriptions: list[Any] = []
        self._signed = 0

    def _roster(self, worker: str) -> str:
        return roster_subject(self._session.options, self._spec.name, worker)

    def _subject(self, worker: str) -> str:
        return presence_subject(self._session.options, self._spec.name, worker)

    @property
    def subject(self) -> str:
        """What we answer roll calls on."""
        return self._subject(self.id)

    async def show(self) -> None:
        """Answer roll calls and write ourselves into the roster; in this order, or we would seem gone."""
        while True:
            if await self._sign():
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        """Subscribe, once per client: it keeps its subscriptions through reconnections."""
        client = await self._session.connected()
        if client is self._client:
            return
        self._subscriptions = [
            await client.subscribe(self.subject, cb=self._answer),
            await client.subscribe(self._subject(EVERYBODY), cb=self._wake),
        ]
        self._client = client

    async def _sign(self) -> bool:
        """Write ourselves into the roster; False when that has to be tried again later."""
        self._signed += 1  # each time under an id of its own: the last entry may have been struck off
        message_id = f"roster:{self._spec.name}:{self.id}:{self._signed}"
        body = json.dumps(self._about).encode()
        try:
            await self._listen()
            headers = {"Nats-Msg-Id": message_id, "Nats-TTL": "never"}
            await self._session.publish(self._roster(self.id), body, headers)
        except TRY_LATER as error:
            log.debug("Not in the roster of %s yet: %s", self._spec.name, error)
            return False
        return True

    async def _answer(self, msg: Msg) -> None:
        await msg.respond(json.dumps(self._held()).encode())

    async def _wake(self, _: Msg) -> None:
        if self._woken is not None:
            await self._woken()

    async def leave(self) -> None:
        """Strike us off the roster; whoever cannot is struck off by others later."""
        try:
            await self.strike_off(self.id)
            for subscription in self._subscriptions:
                await subscription.unsubscribe()
        except TRY_LATER as error:
            log.debug("Still in the roster of %s: %s", self._spec.name, error)

    async def strike_off(self, worker: str) -> None:
        """Remove a worker from the roster."""
        await self._session.api(f"STREAM.PURGE.{self._spec.stream}", {"filter": self._roster(worker)})

    async def call_roll(self) -> RollCall:
        """Ask every worker in the roster what it holds.

        Whoever finds itself missing there signs again: others took it for gone while it was cut off, or
        the stream was made anew.
        """
        filter_ = {"subjects_filter": self._roster("*")}
        info = await self._session.api(f"STREAM.INFO.{self._spec.stream}", filter_)
        workers = [subject.rpartition(".")[2] for subject in info["state"].get("subjects") or {}]
        if self.id not in workers:
            await self._sign()
        client = await self._session.client()
        roll = RollCall()
        await asyncio.gather(*(self._ask(client, worker, roll) for worker in workers))
        return roll

    async def _ask(self, client: Any, worker: str, roll: RollCall) -> None:
        try:
            answer = await client.request(self._subject(worker), b"", _ANSWER_SECONDS)
            roll.answers[worker] = set(_sequences(answer.data))
        except nats.errors.NoRespondersError:
            roll.gone.add(worker)
        except TRY_LATER:
            roll.silent.add(worker)
        except ValueError:
            log.warning("Worker %s of %s answered nonsense.", worker, self._spec.name)
            roll.silent.add(worker)


def _sequences(answer: bytes) -> list[int]:
    """What a worker says it holds; raises ValueError for anything but sequences."""
    found = json.loads(answer)
    if not isinstance(found, list) or not all(isinstance(sequence, int) for sequence in found):
        raise ValueError(answer[:100])
    return found
