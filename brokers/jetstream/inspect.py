"""Depths and health for metrics, pages and probes: numbers from the server, no message is touched."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokers.jetstream.connection import Session
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.topology import dead_subject, ready_subject, scheduled_subjects

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker


@dataclass(frozen=True)
class QueueDepth:
    """Messages of one queue: waiting to be taken, waiting for their time, in workers' hands, given up."""

    queue: str
    ready: int
    scheduled: int
    in_flight: int
    dead: int
    redelivered: int = field(default=0, compare=False)  # of those in flight, or waiting to be taken again


@dataclass(frozen=True)
class StreamSize:
    """What a stream holds now."""

    stream: str
    messages: int
    size_bytes: int


@dataclass(frozen=True)
class AccountStorage:
    """Disk that all streams of our account take, and the most that they may take (None: no limit)."""

    used_bytes: int
    limit_bytes: int | None


def sizes(broker: JetStreamBroker, streams: Iterable[str]) -> list[StreamSize]:
    """The sizes of these streams. Raises Dramatiq's ConnectionFailed, TopologyError for a missing one."""
    return broker.connection.run(_sizes(broker.connection.session(), tuple(streams)))


async def _sizes(session: Session, streams: tuple[str, ...]) -> list[StreamSize]:
    found = []
    for stream in streams:
        state = (await session.api(f"STREAM.INFO.{stream}"))["state"]
        found.append(StreamSize(stream, int(state["messages"]), int(state["bytes"])))
    return found


def storage(broker: JetStreamBroker) -> AccountStorage:
    """The disk of the account. Raises Dramatiq's ConnectionFailed."""
    info = broker.connection.run(broker.connection.session().api("INFO"))
    limit = int((info.get("limits") or {}).get("max_storage", -1))
    return AccountStorage(int(info.get("storage", 0)), limit if limit >= 0 else None)


def depths(broker: JetStreamBroker) -> list[QueueDepth]:
    """The depth of every queue of the broker. Raises Dramatiq's ConnectionFailed, TopologyError."""
    return [depth(broker, spec) for spec in broker.specs.values()]


def depth(broker: JetStreamBroker, spec: QueueSpec) -> QueueDepth:
    """The depth of one queue. Raises as `depths`."""
    return broker.connection.run(_depth(broker.connection.session(), spec))


async def _depth(session: Session, spec: QueueSpec) -> QueueDepth:
    options = session.options
    consumer = await session.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
    scheduled = await _count(session, spec.stream, f"{options.subject_root}.scheduled.{spec.name}.>")
    return QueueDepth(
        queue=spec.name,
        ready=int(consumer["num_pending"]),
        scheduled=scheduled,
        in_flight=int(consumer["num_ack_pending"]),
        dead=await _count(session, options.dead_letter_stream, dead_subject(options, spec.name)),
        redelivered=int(consumer.get("num_redelivered", 0)),
    )


def is_empty(broker: JetStreamBroker, spec: QueueSpec) -> bool:
    """Whether nothing of a queue is ready, scheduled or in flight, in one look.

    A depth is several looks: a message that moves on between them (due, retried) is in none of its numbers.
    A message leaves the stream only when what follows it is stored, so one look cannot miss it.
    """
    return broker.connection.run(_is_empty(broker.connection.session(), spec))


async def _is_empty(session: Session, spec: QueueSpec) -> bool:
    ready = ready_subject(session.options, spec.name)
    scheduled = scheduled_subjects(session.options, spec.name).removesuffix(">")
    offset = 0
    while True:
        body = {"subjects_filter": ">", "offset": offset}
        info = await session.api(f"STREAM.INFO.{spec.stream}", body)
        page = info["state"].get("subjects") or {}
        if ready in page or any(subject.startswith(scheduled) for subject in page):
            return False
        offset += len(page)
        if not page or offset >= int(info.get("total", 0)):
            return True


async def _count(session: Session, stream: str, subject: str) -> int:
    """Messages on a subject, wildcards allowed; the server lists subjects in pages."""
    total = offset = 0
    while True:
        body: dict[str, Any] = {"subjects_filter": subject, "offset": offset}
        info = await session.api(f"STREAM.INFO.{stream}", body)
        page = info["state"].get("subjects") or {}
        total += sum(int(number) for number in page.values())
        offset += len(page)
        if not page or offset >= int(info.get("total", 0)):
            return total


def ping(broker: JetStreamBroker) -> float:
    """Seconds that a JetStream round trip takes; raises Dramatiq's ConnectionFailed when there is none."""
    begin = time.monotonic()
    broker.connection.run(broker.connection.session().api("INFO"))
    return time.monotonic() - begin
