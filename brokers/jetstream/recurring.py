"""Recurring messages without a scheduler process: the server sends them, whoever is up.

A schedule is one stored message on a subject of its own; storing it again under the same name replaces
it. Each time it fires, the run gets a message id of its own. A schedule lives until it is removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import nats.js.errors
from dramatiq.errors import DecodeError
from dramatiq.message import Message

from brokers.jetstream.connection import Session
from brokers.jetstream.message import publish_headers
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.stored import all_headers, stored_payload
from brokers.jetstream.topology import ready_subject, recurring_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_CRON_FIELDS, _CRON_FIELDS_WITH_SECONDS = 5, 6
_NAME_HEADER = "Dramatiq-Schedule"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Recurring:
    """One schedule: `when` is "@every 90s" or six cron fields (seconds first), in `time_zone` if given."""

    queue: str
    name: str
    when: str
    time_zone: str | None
    actor: str | None


def schedule_every(broker: JetStreamBroker, name: str, message: Message[Any], period: timedelta) -> None:
    """Send a message every `period` (whole seconds, at least one), from now on.

    Raises ValueError, QueueNotFound, PublishRefusedError, and Dramatiq's connection errors.
    """
    seconds = period.total_seconds()
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f"period must be whole seconds, at least one, not {period}")
    _put(broker, name, message, {"Nats-Schedule": f"@every {int(seconds)}s"})


def schedule_cron(
    broker: JetStreamBroker, name: str, message: Message[Any], cron: str, time_zone: str | None = None
) -> None:
    """Send a message at the times of a cron expression of five fields, or six with seconds first.

    `time_zone` is an IANA name such as "Europe/Berlin"; UTC without it. Raises as `schedule_every`.
    """
    fields = cron.split()
    if len(fields) not in {_CRON_FIELDS, _CRON_FIELDS_WITH_SECONDS}:
        raise ValueError(f"cron must have five fields, or six with seconds first, not {cron!r}")
    when = " ".join(fields if len(fields) == _CRON_FIELDS_WITH_SECONDS else ["0", *fields])
    headers = {"Nats-Schedule": when}
    if time_zone is not None:
        headers["Nats-Schedule-Time-Zone"] = _zone(time_zone)
    _put(broker, name, message, headers)


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"time_zone {name!r} is not an IANA time zone") from error


def _put(broker: JetStreamBroker, name: str, message: Message[Any], when: dict[str, str]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name {name!r} must be 1 to 64 letters, digits, '-' and '_'")
    if message.options.get("unique_key") is not None:
        raise ValueError(
            f"unique_key {message.options['unique_key']!r} has no effect in a recurring schedule: "
            "the server sends its messages, and takes no lock"
        )
    spec, session = broker.spec(message.queue_name), broker.connection.session()
    headers = publish_headers(message) | when
    del headers["Nats-Msg-Id"]  # storing a schedule again is meant to replace it
    headers |= {
        "Nats-Schedule-Target": ready_subject(broker.options, spec.name),
        "Nats-TTL": "never",
        _NAME_HEADER: name,
    }
    subject = recurring_subject(broker.options, spec.name, name)
    broker.connection.run(session.publish(subject, message.encode(), headers))


def schedules(broker: JetStreamBroker, queue: str) -> list[Recurring]:
    """All recurring schedules of a queue, by name."""
    found = broker.connection.run(_schedules(broker.connection.session(), broker.spec(queue)))
    return sorted(found, key=lambda recurring: recurring.name)


async def _schedules(session: Session, spec: QueueSpec) -> list[Recurring]:
    subject, found = recurring_subject(session.options, spec.name, "x"), list[Recurring]()
    body: dict[str, Any] = {"seq": 1, "next_by_subj": f"{subject.rpartition('.')[0]}.*"}
    while True:
        try:
            answer = await session.api(f"STREAM.MSG.GET.{spec.stream}", body)
        except nats.js.errors.NotFoundError:
            return found
        found.append(_read(spec, answer["message"]))
        body["seq"] = int(answer["message"]["seq"]) + 1


def _read(spec: QueueSpec, stored: dict[str, Any]) -> Recurring:
    headers = all_headers(stored)
    try:
        actor = Message[Any].decode(stored_payload(stored)).actor_name
    except DecodeError:
        actor = None
    return Recurring(
        queue=spec.name,
        name=headers.get(_NAME_HEADER) or str(stored["subject"]).rpartition(".")[2],
        when=headers.get("Nats-Schedule", ""),
        time_zone=headers.get("Nats-Schedule-Time-Zone"),
        actor=actor,
    )


def unschedule(broker: JetStreamBroker, queue: str, name: str) -> bool:
    """Remove a schedule; False when there was none. What it sent already still runs."""
    spec, session = broker.spec(queue), broker.connection.session()
    body = {"filter": recurring_subject(broker.options, queue, name)}
    return bool(broker.connection.run(session.api(f"STREAM.PURGE.{spec.stream}", body)).get("purged"))
