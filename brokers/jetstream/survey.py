"""What an operator sees of queues and workers: numbers and names from the server, no message is touched."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import TRY_LATER
from brokers.jetstream.inspect import count
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.stored import stored_at, stored_payload
from brokers.jetstream.topology import (
    dead_subject,
    presence_subject,
    ready_subject,
    roster_subject,
    scheduled_subjects,
)

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class QueueSurvey:
    """One queue at one moment.

    ready, scheduled, in_flight, dead   messages, as in `inspect.QueueDepth`
    redelivered      messages in workers' hands that were handed out before
    oldest_ready     when the oldest message that nobody has taken yet was stored
    paused_until     when the pause ends; None where there is none
    """

    queue: str
    stream: str
    ready: int
    scheduled: int
    in_flight: int
    redelivered: int
    dead: int
    oldest_ready: datetime | None
    paused_until: datetime | None


@dataclass(frozen=True)
class WorkerSeen:
    """One process in the roster of a queue.

    `threads` and `version` are None for processes of a release that did not say them. `holds` is how many
    messages it has in its hands, None when it does not answer (busy, or dead and not yet struck off).
    """

    queue: str
    name: str
    threads: int | None
    version: str | None
    since: datetime
    holds: int | None


def queues(broker: JetStreamBroker) -> list[QueueSurvey]:
    """All queues of the broker. Raises Dramatiq's ConnectionFailed, TopologyError."""
    session = broker.connection.session()

    async def look() -> list[QueueSurvey]:
        return list(await asyncio.gather(*(_survey(session, spec) for spec in broker.specs.values())))

    return broker.connection.run(look())


async def _survey(session: Session, spec: QueueSpec) -> QueueSurvey:
    options = session.options
    consumer = await session.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
    taken = int(consumer["delivered"]["stream_seq"])
    return QueueSurvey(
        queue=spec.name,
        stream=spec.stream,
        ready=int(consumer["num_pending"]),
        scheduled=await count(session, spec.stream, scheduled_subjects(options, spec.name)),
        in_flight=int(consumer["num_ack_pending"]),
        redelivered=int(consumer["num_redelivered"]),
        dead=await count(session, options.dead_letter_stream, dead_subject(options, spec.name)),
        oldest_ready=await _stored_after(session, spec, taken) if consumer["num_pending"] else None,
        paused_until=_paused_until(consumer),
    )


def _paused_until(consumer: dict[str, Any]) -> datetime | None:
    if not consumer.get("paused"):
        return None
    left = timedelta(microseconds=int(consumer.get("pause_remaining", 0)) / 1000)
    return datetime.now(UTC) + left


async def _stored_after(session: Session, spec: QueueSpec, sequence: int) -> datetime | None:
    """When the first ready message behind a sequence was stored."""
    body = {"seq": sequence + 1, "next_by_subj": ready_subject(session.options, spec.name)}
    try:
        found = await session.api(f"STREAM.MSG.GET.{spec.stream}", body)
    except nats.js.errors.NotFoundError:  # taken meanwhile
        return None
    return _moment(found["message"])


def workers(broker: JetStreamBroker) -> list[WorkerSeen]:
    """The processes in the rosters of all queues, by queue and name. Raises as `queues`."""
    session = broker.connection.session()

    async def look() -> list[WorkerSeen]:
        rosters = await asyncio.gather(*(_roster(session, spec) for spec in broker.specs.values()))
        return [worker for roster in rosters for worker in roster]

    return sorted(broker.connection.run(look()), key=lambda worker: (worker.queue, worker.name))


async def _roster(session: Session, spec: QueueSpec) -> list[WorkerSeen]:
    entries = roster_subject(session.options, spec.name, "*")
    info = await session.api(f"STREAM.INFO.{spec.stream}", {"subjects_filter": entries})
    subjects = info["state"].get("subjects") or {}
    seen = await asyncio.gather(*(_worker(session, spec, subject) for subject in subjects))
    return [worker for worker in seen if worker is not None]


async def _worker(session: Session, spec: QueueSpec, subject: str) -> WorkerSeen | None:
    """None for one that left while we looked, or of which nothing is left but its entry."""
    try:
        found = await session.api(f"STREAM.MSG.GET.{spec.stream}", {"last_by_subj": subject})
        holds = await _holds(session, spec, subject.rpartition(".")[2])
    except (nats.js.errors.NotFoundError, nats.errors.NoRespondersError):
        return None
    about = json.loads(stored_payload(found["message"]) or b"{}")
    return WorkerSeen(
        queue=spec.name,
        name=str(about.get("worker", "?")),
        threads=about.get("threads"),
        version=about.get("version") or None,
        since=_moment(found["message"]),
        holds=holds,
    )


async def _holds(session: Session, spec: QueueSpec, worker: str) -> int | None:
    client = await session.client()
    subject = presence_subject(session.options, spec.name, worker)
    try:
        answer = await client.request(subject, b"", _ANSWER_SECONDS)
        return len(json.loads(answer.data))
    except nats.errors.NoRespondersError:
        raise
    except TRY_LATER:
        return None
    except ValueError:  # nonsense
        return None


def _moment(found: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(stored_at(found) / 1e9, UTC)
