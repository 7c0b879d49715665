"""Depths and health for metrics, pages and probes: numbers from the server, no message is touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import TopologyError, connection_error
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.topology import dead_subject, ready_subject, scheduled_subjects, unique_subject

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_PROBE = "is this stream written to?"  # a key that no message has
_PROBE_SECONDS = 1.2  # with the round trip before it, less than a health check waits


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


def sizes(broker: JetStreamBroker, streams: Iterable[str]) -> list[StreamSize]:
    """The sizes of these streams. Raises Dramatiq's ConnectionFailed, TopologyError for a missing one."""
    return broker.connection.run(_sizes(broker.connection.session(), tuple(streams)))


async def _sizes(session: Session, streams: tuple[str, ...]) -> list[StreamSize]:
    found = []
    for stream in streams:
        state = (await session.api(f"STREAM.INFO.{stream}"))["state"]
        found.append(StreamSize(stream, int(state["messages"]), int(state["bytes"])))
    return found


def depths(broker: JetStreamBroker) -> list[QueueDepth]:
    """The depth of every queue of the broker. Raises Dramatiq's ConnectionFailed, TopologyError."""
    return [depth(broker, spec) for spec in broker.specs.values()]


def depth(broker: JetStreamBroker, spec: QueueSpec) -> QueueDepth:
    """The depth of one queue. Raises as `depths`."""
    return broker.connection.run(_depth(broker.connection.session(), spec))


async def _depth(session: Session, spec: QueueSpec) -> QueueDepth:
    """What is ready is what the stream holds and no worker has in hands.

    The consumer has a number of its own for it, which the server raises only a moment after it has
    confirmed a message.
    """
    options = session.options
    consumer = await session.api(f"CONSUMER.INFO.{spec.stream}.{spec.name}")
    in_flight = int(consumer["num_ack_pending"])
    return QueueDepth(
        queue=spec.name,
        ready=max(0, await count(session, spec.stream, ready_subject(options, spec.name)) - in_flight),
        scheduled=await count(session, spec.stream, scheduled_subjects(options, spec.name)),
        in_flight=in_flight,
        dead=await count(session, options.dead_letter_stream, dead_subject(options, spec.name)),
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


async def count(session: Session, stream: str, subject: str) -> int:
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


def probe(broker: JetStreamBroker) -> float:
    """As `ping`, but it also writes to every queue's stream, which a server that answers may refuse.

    A stream that met a full disk confirms nothing until its server is restarted. What is written here
    ends by itself after a second. A stream that is missing is no failure. Raises ConnectionFailed.
    """
    seconds = ping(broker)
    queues = {spec.stream: spec.name for spec in broker.specs.values()}
    broker.connection.run(_write_to_all(broker.connection.session(), queues))
    return seconds


async def _write_to_all(session: Session, queues: Mapping[str, str]) -> None:
    """One write to each stream, side by side, on a subject of the queue that no worker reads."""
    await asyncio.gather(*(_write(session, stream, queue) for stream, queue in queues.items()))


async def _write(session: Session, stream: str, queue: str) -> None:
    subject = unique_subject(session.options, queue, _PROBE)
    try:
        await asyncio.wait_for(session.publish(subject, b"", {"Nats-TTL": "1s"}), _PROBE_SECONDS)
    except TimeoutError as error:
        try:
            await session.api(f"STREAM.INFO.{stream}")
        except TopologyError:  # not applied yet: nothing is wrong with the server
            return
        raise connection_error(
            f"stream {stream} confirms no write; if its disk was full, restart NATS", error
        ) from error


def ping(broker: JetStreamBroker) -> float:
    """Seconds that a JetStream round trip takes; raises Dramatiq's ConnectionFailed when there is none."""
    begin = time.monotonic()
    broker.connection.run(broker.connection.session().api("INFO"))
    return time.monotonic() - begin
