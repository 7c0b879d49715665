"""Reading stored messages by sequence: one with its payload, or many for the price of their headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg

from brokers.jetstream.connection import Session
from brokers.jetstream.errors import AWAY, TopologyError, connection_error
from brokers.jetstream.stored import all_headers, stored_payload

T = TypeVar("T")
log = logging.getLogger(__name__)

_FETCH_SECONDS, _FETCHED_AT_ONCE = 2.0, 500
_NEW_CONSUMER_PAUSE_SECONDS = 0.05
_NOBODY_ANSWERS = "503"
_MOST_DIGITS = 20
_WIDEST_WINDOW = 20_000  # sequences looked at in one go
_INACTIVE_SECONDS = 30.0
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')  # JSON has no other words for these characters


@dataclass(frozen=True)
class Stored:
    """A message in a stream; `payload` is None where only headers were read."""

    sequence: int
    subject: str
    headers: dict[str, str]
    stored_at: datetime
    payload: bytes | None = None

    def json(self, header: str) -> Any:
        """The value of a header that holds JSON; None for anything else."""
        try:
            return json.loads(self.headers[header])
        except (KeyError, ValueError, RecursionError):
            return None

    def text(self, header: str) -> str | None:
        """The text in a header that holds JSON."""
        plain = self.headers.get(header, "")
        if plain[:1] == plain[-1:] == '"' and len(plain) > 1 and _PLAIN.fullmatch(plain, 1, len(plain) - 1):
            return plain[1:-1]  # most are, and a million of them are read
        value = self.json(header)
        return value if isinstance(value, str) else None

    def number(self, header: str) -> int:
        """A whole number, 0 for anything else."""
        digits = self.headers.get(header, "")[:_MOST_DIGITS]
        return int(digits) if digits.isascii() and digits.isdigit() else 0

    def time(self, header: str) -> datetime | None:
        """A time in ISO's format."""
        try:
            found = datetime.fromisoformat(self.headers.get(header, ""))
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)


async def one(session: Session, stream: str, **where: Any) -> Stored | None:
    """The message that `where` names (seq; last_by_subj; seq and next_by_subj), None when there is none.

    Raises TopologyError, and Dramatiq's connection errors, as everything here.
    """
    try:
        answer = await session.api(f"STREAM.MSG.GET.{stream}", where)
    except nats.js.errors.NotFoundError:
        return None
    found = answer["message"]
    return Stored(
        sequence=int(found["seq"]),
        subject=str(found["subject"]),
        headers=all_headers(found),
        stored_at=_time(found["time"]),
        payload=stored_payload(found),
    )


async def delete(session: Session, stream: str, sequence: int) -> None:
    """Remove a message; one that is gone is no error.

    As when it is acknowledged, its bytes are not overwritten: that takes twenty times as long.
    """
    try:
        await session.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
    except nats.js.errors.APIError as error:
        log.debug("Message %s of %s was gone: %s", sequence, stream, error.description)


def _time(text: str) -> datetime:
    """The server's RFC 3339 time, rounded as the client rounds the one in a delivery's subject."""
    seconds, _, fraction = text.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return datetime.fromtimestamp((whole * 10**9 + int(f"{fraction:0<9}")) / 1e9, UTC)


async def newest_first(
    session: Session,
    stream: str,
    subject: str,
    read: Callable[[Stored], T | None],
    *,
    limit: int,
    before: int | None = None,
) -> list[T]:
    """What `read` makes of the newest messages below the sequence `before`; its Nones are left out."""
    state = (await session.api(f"STREAM.INFO.{stream}"))["state"]
    end = min(before or state["last_seq"] + 1, state["last_seq"] + 1)
    window, found = max(limit, 1), list[T]()
    while end > state["first_seq"] and len(found) < limit and state["messages"]:
        start = max(state["first_seq"], end - window)
        page = await between(session, stream, subject, start, end)
        found += [item for stored in reversed(page) if (item := read(stored)) is not None]
        end, window = start, min(window * 4, _WIDEST_WINDOW)
    return found[:limit]


async def between(
    session: Session, stream: str, subject: str, start: int, end: int, *, limit: int | None = None
) -> list[Stored]:
    """The messages on `subject` with start <= sequence < end, oldest first, the first `limit` of them."""
    start = max(start, 1)  # a stream that never held anything says that its first one is 0
    if start >= end:
        return []
    config = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "ack_policy": "none",
        "filter_subject": subject,
        "headers_only": True,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": int(_INACTIVE_SECONDS * 1e9),
    }
    info = await session.api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
    most = min(int(info["num_pending"]), end - start, end - start if limit is None else limit)
    try:
        found = await _fetch(session, stream, str(info["name"]), most, end)
    except AWAY as error:
        raise connection_error(f"reading {stream}", error) from error
    finally:
        with contextlib.suppress(BrokerConnectionError, TopologyError, nats.js.errors.APIError):
            await session.api(f"CONSUMER.DELETE.{stream}.{info['name']}")
    return found


async def _fetch(session: Session, stream: str, consumer: str, most: int, end: int) -> list[Stored]:
    client = await session.client()
    inbox = client.new_inbox()
    arrivals = _Arrivals(inbox)
    subscription = await client.subscribe(inbox, cb=arrivals.take)
    found: list[Stored] = []
    try:
        more = most > 0
        while more:
            wanted = min(most - len(found), _FETCHED_AT_ONCE)
            batch = await _fetch_some(
                client, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", arrivals, wanted
            )
            found += [stored for stored in map(of_delivery, batch) if stored.sequence < end]
            last = batch[-1].metadata
            more = len(found) < most and last.num_pending > 0 and last.sequence.stream < end - 1
    except nats.errors.TimeoutError:
        pass  # the rest was removed while we were reading
    finally:
        await subscription.unsubscribe()
    return found


async def _fetch_some(client: Any, subject: str, arrivals: _Arrivals, most: int) -> list[Msg]:
    """At least one message of a consumer that was made a moment ago: not every server may know it yet.

    Raises nats' TimeoutError where none is left, and ServiceUnavailableError.
    """
    request = json.dumps({"batch": most, "expires": int(_FETCH_SECONDS * 1e9)}).encode()
    deadline = time.monotonic() + _FETCH_SECONDS
    while True:
        arrivals.expect(most)
        await client.publish(subject, request, reply=arrivals.inbox)
        with contextlib.suppress(TimeoutError):  # a connection that broke: what came is what there is
            await asyncio.wait_for(arrivals.complete.wait(), 2 * _FETCH_SECONDS)
        if arrivals.messages:
            return arrivals.messages
        if arrivals.status != _NOBODY_ANSWERS:
            raise nats.errors.TimeoutError
        if time.monotonic() >= deadline:
            raise nats.js.errors.ServiceUnavailableError
        await asyncio.sleep(_NEW_CONSUMER_PAUSE_SECONDS)


class _Arrivals:
    """What comes for a request. A callback, since waiting for each message costs more than reading it."""

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.expect(0)

    def expect(self, most: int) -> None:
        """From here on, what comes belongs to a request for so many."""
        self.messages: list[Msg] = []
        self.status: str | None = None  # why no more come
        self.complete = asyncio.Event()
        self._most = most

    async def take(self, msg: Msg) -> None:
        if msg.subject == self.inbox:  # the server's own word; messages come by the subject they lie on
            self.status = (msg.headers or {}).get("Status")
            self.complete.set()
            return
        self.messages.append(msg)
        if len(self.messages) == self._most:
            self.complete.set()


def of_delivery(msg: Msg) -> Stored:
    """The headers of a message that a consumer handed out."""
    meta = msg.metadata
    return Stored(meta.sequence.stream, msg.subject, dict(msg.headers or {}), meta.timestamp)
