"""Following the dead-letter stream with one durable consumer, for whoever keeps an index of the letters.

All processes share the consumer, so its place in the stream is the index's, whoever writes that. A letter is
handed out without its payload until it is acknowledged; whoever dies before that leaves it to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats.errors
import nats.js.errors

from brokers.jetstream import browse
from brokers.jetstream.browse import Stored
from brokers.jetstream.burial import DeadLetter, read_letter
from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY, TopologyError, connection_error
from brokers.jetstream.topology import INDEX_CONSUMER, dead_subject

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from brokers.jetstream.broker import JetStreamBroker

_PAGE = 2000


@dataclass(frozen=True)
class Lifetime:
    """Which stream the letters lie on (one made anew counts from 1), and which ids it holds."""

    created: str
    first: int
    last: int
    messages: int
    max_age_seconds: float


@dataclass(frozen=True)
class Batch:
    """Letters that were handed out, oldest first, of the stream that was made at `life.created`."""

    life: Lifetime
    letters: Sequence[DeadLetter]
    messages: Sequence[Msg]


def lifetime(broker: JetStreamBroker) -> Lifetime:
    """The stream as it is now; raises TopologyError and Dramatiq's connection errors."""
    return broker.connection.run(_lifetime(broker.connection.session()))


async def _lifetime(session: Session) -> Lifetime:
    info = await session.api(f"STREAM.INFO.{session.options.dead_letter_stream}")
    state = info["state"]
    max_age = float(info["config"].get("max_age", 0)) / 1e9
    return Lifetime(
        str(info["created"]), int(state["first_seq"]), int(state["last_seq"]), int(state["messages"]), max_age
    )


def take(broker: JetStreamBroker, *, most: int = 500, wait_seconds: float = 1.0) -> Batch:
    """The next letters that nobody has acknowledged, as soon as there is one, or none after the wait.

    Raises TopologyError where the consumer is missing (`flask streams apply` makes it), and Dramatiq's
    connection errors.
    """
    session = broker.connection.session()
    return broker.connection.run(_take(session, most, wait_seconds), timeout_seconds=wait_seconds + 10)


async def _take(session: Session, most: int, wait_seconds: float) -> Batch:
    life = await _lifetime(session)
    stream = session.options.dead_letter_stream
    try:
        client = await session.client()
        subscription = await client.jetstream().pull_subscribe_bind(stream=stream, consumer=INDEX_CONSUMER)
        try:
            messages: Sequence[Msg] = await subscription.fetch(most, timeout=wait_seconds)
        except TimeoutError:  # nothing came
            messages = []
        finally:
            await subscription.unsubscribe()
    except nats.js.errors.ServiceUnavailableError as error:
        raise TopologyError(
            f"{stream} has no consumer {INDEX_CONSUMER}: run `flask streams apply`"
        ) from error
    except AWAY as error:
        raise connection_error(f"reading {stream}", error) from error
    letters = [read_letter(browse.of_delivery(msg), life.max_age_seconds) for msg in messages]
    return Batch(life, letters, messages)


def acknowledge(broker: JetStreamBroker, batch: Batch) -> None:
    """The letters are in the index: they are not handed out again. Raises Dramatiq's connection errors."""
    broker.connection.run(_acknowledge(batch))


async def _acknowledge(batch: Batch) -> None:
    # Unconfirmed: one that is lost brings a letter back that the index has already.
    with suppress(nats.errors.MsgAlreadyAckdError):
        await asyncio.gather(*(msg.ack() for msg in batch.messages))


def everything(broker: JetStreamBroker, life: Lifetime, *, start: int = 0) -> Iterator[list[DeadLetter]]:
    """All letters that the stream holds now from the id `start` on, oldest first, two thousand at a time.

    Raises TopologyError and Dramatiq's connection errors.
    """
    session = broker.connection.session()
    stream, subject = session.options.dead_letter_stream, dead_subject(session.options, "*")
    end = life.last + 1

    def read(at: int) -> list[Stored]:
        return broker.connection.run(browse.between(session, stream, subject, at, end, limit=_PAGE))

    with ThreadPoolExecutor(1) as ahead:  # the next page comes while the caller deals with this one
        page = read(max(start, life.first))
        while page:
            coming = ahead.submit(read, page[-1].sequence + 1)
            yield [read_letter(stored, life.max_age_seconds) for stored in page]
            page = coming.result()
