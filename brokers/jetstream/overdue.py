"""Schedules that the server could not fire for want of room: it does not try again until it restarts.

A worker walks over the scheduled messages, a few at a time, and stores what is overdue again as due
now. The server replaces a schedule only if it has not fired in the meantime, so nothing runs twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

import nats.js.errors

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import PublishRefusedError
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.schedule import schedule_at, server_time
from brokers.jetstream.stored import all_headers, own_headers, stored_at, stored_payload
from brokers.jetstream.topology import ready_subject, scheduled_subjects

log = logging.getLogger(__name__)

_LOOKED_AT = 50  # scheduled messages per round; the next round goes on from there
_HASTE = 10  # times as many, once something overdue was found: there is probably more
OVERDUE = timedelta(seconds=10)


class Overdue:
    """Where the walk over one queue's scheduled messages stands. All methods belong to the loop thread."""

    def __init__(self, session: Session, spec: QueueSpec) -> None:
        self._session, self._spec = session, spec
        self._sequence = 1
        self._found = 0  # in the last round

    async def nudge(self, now: datetime) -> int:
        """Look at some scheduled messages; how many of them were overdue and are due now.

        `now` is the time on the server's clock: ours may be an hour off.
        """
        nudged = 0
        for _ in range(_LOOKED_AT * (_HASTE if self._found else 1)):
            found = await self._following()
            if found is None:
                break
            due = due_at(all_headers(found).get("Nats-Schedule", ""))
            if due is not None and due < now - OVERDUE:
                nudged += await self._fire(found, now)
        self._found = nudged
        return nudged

    async def _following(self) -> dict[str, Any] | None:
        subject = scheduled_subjects(self._session.options, self._spec.name)
        body = {"seq": self._sequence, "next_by_subj": subject}
        try:
            answer = await self._session.api(f"STREAM.MSG.GET.{self._spec.stream}", body)
        except nats.js.errors.NotFoundError:
            self._sequence = 1
            return None
        message: dict[str, Any] = answer["message"]
        self._sequence = int(message["seq"]) + 1
        return message

    async def _fire(self, found: dict[str, Any], now: datetime) -> bool:
        headers = own_headers(found) | schedule_at(now, ready_subject(self._session.options, self._spec.name))
        headers["Nats-Msg-Id"] = f"overdue:{self._spec.stream}:{found['seq']}:{stored_at(found)}"
        headers["Nats-Expected-Last-Subject-Sequence"] = str(found["seq"])
        try:
            await self._session.publish(found["subject"], stored_payload(found), headers)
        except PublishRefusedError as error:  # it fired after all, or there is still no room
            log.debug("The overdue message %s of %s waits on: %s", found["seq"], self._spec.name, error)
            return False
        log.warning("Message %s of %s was overdue; it is due now.", found["seq"], self._spec.name)
        self._session.options.tell("overdue", self._spec.name)
        return True


def due_at(schedule: str) -> datetime | None:
    """When a one-time schedule is due; None for any other."""
    kind, _, when = schedule.partition(" ")
    try:
        return server_time(when) if kind == "@at" else None
    except ValueError:
        return None
