"""The nets below max_deliver and ack_wait: messages that nobody works on are found and renewed.

Orphans: in the hands of a worker that is gone (presence.py). The server would give them away after
ack_wait, which is minutes; here it takes two patrols. While another worker says nothing, only what the
gone one named as its own when it was last asked: anything else may be the silent one's.
Stranded: the server will not deliver them again. A message is renewed long before its last delivery,
so this happens only when workers died on two deliveries in a row before they could look at it. The
server tells nobody unless somebody pulls at that moment, so workers look for themselves.
Overdue: see overdue.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

import nats.js.errors

from brokers.jetstream import unique
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import TRY_LATER
from brokers.jetstream.message import (
    CARRIED_HEADER,
    FIRING_HEADER,
    FIRST_HEADER,
    firing_id,
    first_stored_id,
    number,
)
from brokers.jetstream.oddities import ClockWatch
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.overdue import Overdue
from brokers.jetstream.presence import Presence, RollCall
from brokers.jetstream.schedule import server_time
from brokers.jetstream.stored import all_headers, own_headers, stored_at, stored_payload
from brokers.jetstream.topology import ready_subject

log = logging.getLogger(__name__)

# Parts of patrol_seconds: who just began may follow one that died, and who is gone is looked for again soon.
_FIRST, _SECOND = 5, 2


class Patrol:
    """Looks after one queue from one worker; what it acts on it has seen twice in a row."""

    def __init__(self, session: Session, spec: QueueSpec, presence: Presence) -> None:
        self._session, self._spec, self._presence = session, spec, presence
        self._overdue, self._clock = Overdue(session, spec), ClockWatch()
        self._stranded: int | None = None
        self._gone: set[str] = set()
        self._orphans: set[int] = set()
        self._answers: dict[str, tuple[float, set[int]]] = {}  # when each worker last said what it holds

    async def run(self) -> None:
        """Patrol for ever."""
        pause = self._session.options.patrol_seconds / _FIRST
        while True:
            await asyncio.sleep(pause)
            await self._guarded(self.once())
            pause = self._session.options.patrol_seconds / (_SECOND if self._gone else 1)

    async def once(self) -> None:
        """One look at the queue."""
        consumer = await self._session.api(f"CONSUMER.INFO.{self._spec.stream}.{self._spec.name}")
        now = server_time(consumer["ts"])
        self._clock.compare(now)
        await self._guarded(self._overdue.nudge(now))
        await self._guarded(self._look_for_stranded(consumer))
        await self._guarded(self._look_for_orphans(consumer))

    async def _guarded(self, look: Coroutine[Any, Any, object]) -> None:
        """Whatever one message holds must not end the watch over all others."""
        try:
            await look
        except TRY_LATER as error:
            log.debug("Could not look after %s: %s", self._spec.name, error)
        except Exception:
            log.exception("Looking after %s failed; it goes on.", self._spec.name)

    async def _look_for_stranded(self, consumer: dict[str, Any]) -> None:
        idle = not consumer["num_ack_pending"]
        limit = int(consumer["delivered" if idle else "ack_floor"]["stream_seq"])
        found = await self._next(1)
        sequence = int(found["seq"]) if found is not None and int(found["seq"]) <= limit else None
        if found is not None and sequence is not None and sequence == self._stranded:
            log.warning("Message %s of %s had no deliveries left; it is renewed.", sequence, self._spec.name)
            await self._renew(found)
            self._session.options.tell("stranded", self._spec.name)
        self._stranded = sequence

    async def _look_for_orphans(self, consumer: dict[str, Any]) -> None:
        if self._session.just_back:  # and so are others, if not yet all
            self._gone, self._orphans = set(), set()
            return
        roll = await self._presence.call_roll()
        orphans: dict[int, dict[str, Any]] = {}
        if roll.gone and consumer["num_ack_pending"]:
            orphans = await self._in_flight(consumer, roll.held)
        named = self._named_by(roll)
        if roll.silent:  # the rest may be in their hands
            orphans = {sequence: orphans[sequence] for sequence in orphans.keys() & named}
        if roll.gone & self._gone:
            await self._renew_orphans(orphans)
            if not roll.silent and not orphans:
                for worker in roll.gone & self._gone:
                    await self._presence.strike_off(worker)
        self._gone, self._orphans = roll.gone, set(orphans)

    def _named_by(self, roll: RollCall) -> set[int]:
        """What those who are gone now held when they last answered, if the server cannot have passed it on.

        They renewed it a third of ack_wait before that at the earliest.
        """
        now = time.monotonic()
        self._answers |= {worker: (now, held) for worker, held in roll.answers.items()}
        recent = now - self._spec.ack_wait_seconds / 2
        self._answers = {
            worker: (at, held)
            for worker, (at, held) in self._answers.items()
            if at > recent or worker in roll.answers
        }
        return set().union(*(self._answers[worker][1] for worker in roll.gone & self._answers.keys()))

    async def _renew_orphans(self, orphans: dict[int, dict[str, Any]]) -> None:
        """Renew what was an orphan at the last patrol, too, unless somebody has taken it this moment."""
        due = orphans.keys() & self._orphans
        taken = (await self._presence.call_roll()).held if due else set()
        for sequence in due - taken:
            log.warning("The worker of message %s of %s is gone; renewed.", sequence, self._spec.name)
            await self._renew(orphans.pop(sequence))
            self._session.options.tell("orphaned", self._spec.name)

    async def _in_flight(self, consumer: dict[str, Any], held: set[int]) -> dict[int, dict[str, Any]]:
        """Messages that were delivered and are stored still, without those that a worker holds."""
        found: dict[int, dict[str, Any]] = {}
        message = await self._next(int(consumer["ack_floor"]["stream_seq"]) + 1)
        while message is not None and int(message["seq"]) <= int(consumer["delivered"]["stream_seq"]):
            if int(message["seq"]) not in held:
                found[int(message["seq"])] = message
            message = await self._next(int(message["seq"]) + 1)
        return found

    async def _next(self, sequence: int) -> dict[str, Any] | None:
        """The first ready message at or after a sequence."""
        body = {"seq": sequence, "next_by_subj": ready_subject(self._session.options, self._spec.name)}
        try:
            answer = await self._session.api(f"STREAM.MSG.GET.{self._spec.stream}", body)
        except nats.js.errors.NotFoundError:
            return None
        return dict(answer["message"])

    async def _renew(self, found: dict[str, Any]) -> None:
        """Store a message under a new sequence, then remove the old one; twice is harmless."""
        stream, sequence = self._spec.stream, int(found["seq"])
        headers, stored_id = own_headers(found), f"{stream}:{sequence}:{stored_at(found)}"
        headers |= {
            "Nats-Msg-Id": f"renewed:{stored_id}",
            FIRST_HEADER: first_stored_id(headers, stored_id),
            CARRIED_HEADER: str(number(headers.get(CARRIED_HEADER)) + 1),
        }
        fired = firing_id(all_headers(found), stored_id)
        if fired:
            headers[FIRING_HEADER] = fired
        subject = ready_subject(self._session.options, self._spec.name)
        await unique.prolong_stored(self._session, self._spec, stored_payload(found))
        await self._session.publish(subject, stored_payload(found), headers)
        await self._session.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})
