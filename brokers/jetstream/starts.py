"""Which runs started and never ended: how a crash loop is seen without any advisory.

A message that was delivered before is a suspect. Each of its runs is noted in the stream before it
starts and the note is removed when it ends, so what is left over are runs that took their worker
down. Suspects with such a note run one at a time per process: an innocent that died beside a
poisonous message is not counted with it again.

Of a first delivery no start is noted, so it counts as a run unless it is noted that it was given back.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import nats.js.errors

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY
from brokers.jetstream.message import Delivery, JetStreamMessage, worker_name
from brokers.jetstream.topology import started_subject


class Starts:
    """Notes about the runs of one message's attempt. All methods belong to the loop thread."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _subject(self, message: JetStreamMessage) -> str:
        spec = message.delivery.spec
        return started_subject(self._session.options, spec.name, message.message_id, message.attempt)

    async def count(self, message: JetStreamMessage) -> int:
        """How many runs of this attempt started and never ended."""
        subject = self._subject(message)
        info = await self._session.api(
            f"STREAM.INFO.{message.delivery.spec.stream}", {"subjects_filter": subject}
        )
        return int((info["state"].get("subjects") or {}).get(subject, 0))

    async def note(self, message: JetStreamMessage) -> None:
        """Record that a run starts now; stored when this returns."""
        body = {"worker": worker_name(), "at": time.time(), "delivery": message.delivery.deliveries}
        headers = {"Nats-Msg-Id": f"start:{message.delivery.stored_id}:{message.delivery.deliveries}"}
        message.delivery.start_sequence = await self._session.publish(
            self._subject(message), json.dumps(body).encode(), headers
        )

    async def last(self, message: JetStreamMessage) -> dict[str, Any]:
        """The latest note: worker and time of the run that never ended."""
        stream = message.delivery.spec.stream
        try:
            found = (
                await (await self._session.client()).jetstream().get_last_msg(stream, self._subject(message))
            )
        except nats.js.errors.NotFoundError:
            return {}
        return dict(json.loads(found.data or b"{}"))

    async def ended(self, message: JetStreamMessage) -> None:
        """Remove all notes: the attempt came to its end."""
        delivery = message.delivery
        for subject in (self._subject(message), _given_back_subject(self._session, delivery)):
            await self._session.api(f"STREAM.PURGE.{delivery.spec.stream}", {"filter": subject})

    async def first_was_given_back(self, delivery: Delivery) -> bool:
        """Whether the first delivery of the message ended without taking its worker down."""
        subject = _given_back_subject(self._session, delivery)
        try:
            await self._session.api(f"STREAM.MSG.GET.{delivery.spec.stream}", {"last_by_subj": subject})
        except nats.js.errors.NotFoundError:
            return False
        return True

    async def interrupted(self, delivery: Delivery) -> None:
        """Remove this run's note only: it was stopped from outside, which is no crash."""
        body = {"seq": delivery.start_sequence}
        await self._session.api(f"STREAM.MSG.DELETE.{delivery.spec.stream}", body)


async def note_given_back(session: Session, delivery: Delivery) -> None:
    """Record that a first delivery is given back. Not confirmed: without the note, it counts as a run."""
    client = session.connected_client
    if client is not None:
        with contextlib.suppress(*AWAY):
            await client.publish(_given_back_subject(session, delivery), worker_name().encode())


def _given_back_subject(session: Session, delivery: Delivery) -> str:
    return started_subject(session.options, delivery.spec.name, f"given-back:{delivery.first_stored_id}", 0)


class SuspectGate:
    """Lets one suspect of this process run at a time; the others wait outside the worker's threads."""

    def __init__(self, resume: Callable[[JetStreamMessage], None], parked: set[Delivery]) -> None:
        self._resume = resume
        self._placeless = parked  # shared with Holdings: they occupy no place while they wait
        self._lock = threading.Lock()
        self._running: JetStreamMessage | None = None
        self._parked: deque[JetStreamMessage] = deque()

    def admit(self, message: JetStreamMessage) -> bool:
        """True when the message may run now; else it is parked and resumed later."""
        with self._lock:
            if self._running is None:
                self._running = message
                return True
            self._placeless.add(message.delivery)
            self._parked.append(message)
            return False

    def leave(self, message: JetStreamMessage) -> None:
        """The message ended; the next one may run."""
        with self._lock:
            if self._running is not message:
                return
            self._running = self._parked.popleft() if self._parked else None
            following = self._running
        if following is not None:
            self._placeless.discard(following.delivery)
            self._resume(following)
