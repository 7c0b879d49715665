"""A small key-value store in the loop's thread, laid out as every NATS client's key-value buckets are.

A bucket is the stream KV_<bucket>; a key is its subject $KV.<bucket>.<key>, whose last message is the
value and whose sequence is the revision. How long a value lives travels with it (Nats-TTL) and is kept
by the server, in whole seconds. What decides is read from the stream's leader; what is only summed may
come from any replica and is checked against what the leader said.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg
from nats.js import api

from brokers.jetstream.connection import Connection, Session
from brokers.jetstream.errors import AWAY, LOST_RACE, PublishRefusedError, connection_error
from brokers.jetstream.options import BrokerOptions
from brokers.jetstream.stored import all_headers, stored_payload

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST_TOKEN = 200  # the server takes 4 KiB of subject and headers in one line
# The race was lost, or "duplicate message id is in process".
_NOT_WRITTEN = LOST_RACE | {10158}
_MOST_SUBJECTS = 1000  # of one read; the server stops at 1,024 answers
_ANSWER_SECONDS = 2.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 1.0
_READ_SECONDS = 2.0


@dataclass(frozen=True)
class Entry:
    """What the server has under a key: value None and revision 0 when it has nothing."""

    value: bytes | None
    revision: int
    subject: str = ""
    write_id: str = ""  # of the write that made it


ABSENT = Entry(None, 0)


def bucket_configs(options: BrokerOptions) -> list[api.StreamConfig]:
    """The streams of the two buckets: results by age, limits with nothing but each value's own TTL."""
    results_age = options.results_max_age_seconds
    return [
        _bucket_config(options, options.results_bucket, results_age),
        _bucket_config(options, options.limits_bucket, None),
    ]


def _bucket_config(options: BrokerOptions, bucket: str, max_age: float | None) -> api.StreamConfig:
    return api.StreamConfig(
        name=stream_name(bucket),
        subjects=[f"$KV.{bucket}.>"],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        num_replicas=options.replicas,
        max_age=max_age,
        max_msgs_per_subject=1,
        discard=api.DiscardPolicy.NEW,
        duplicate_window=min(120.0, max_age or math.inf),
        allow_direct=True,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


def stream_name(bucket: str) -> str:
    """The stream that holds a bucket."""
    return f"KV_{bucket}"


def encode_key(key: str) -> str:
    """Any text as a legal key, different texts as different keys, plain ones readable.

    What stands after the last "@" becomes a token of its own ("limit@1700000000" is
    "limit.1700000000"), so that keys of one family share a wildcard.
    """
    family, at, member = key.rpartition("@")
    return f"{_token(family)}.{_token(member)}" if at else _token(key)


def _token(text: str) -> str:
    raw = text.encode("utf-8", "surrogatepass")
    quoted = "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in raw)
    if len(quoted) > _LONGEST_TOKEN:
        return f"=={hashlib.sha256(raw).hexdigest()}"
    return quoted or "="


def ttl_header(ttl_ms: float) -> dict[str, str]:
    """The header that lets the server forget a value; it knows whole seconds, so they are rounded up."""
    return {"Nats-TTL": f"{max(1, math.ceil(ttl_ms / 1000))}s"}


def connection_of(source: JetStreamBroker | BrokerOptions) -> Connection:
    """The broker's own connection, or a new one for options."""
    return Connection(source) if isinstance(source, BrokerOptions) else source.connection


class Bucket:
    """One bucket; keys are given encoded. All methods belong to the loop thread.

    They raise Dramatiq's ConnectionFailed when the server is away, and TopologyError when the bucket
    is missing.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name, self._stream = name, stream_name(name)

    def subject(self, key: str) -> str:
        """Where a key lives; wildcards in the key stay wildcards."""
        return f"$KV.{self._name}.{key}"

    async def read(self, key: str) -> Entry:
        """The last entry of a key, or of all keys that a wildcard covers, as the leader has it."""
        try:
            answer = await self._session.api(
                f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": self.subject(key)}
            )
        except nats.js.errors.NotFoundError:
            return ABSENT
        return _entry(answer["message"])

    async def read_all(self, keys: Iterable[str], seen: Entry) -> dict[str, bytes] | None:
        """The values of those keys that exist, at least as new as `seen`; None when that is not sure."""
        wanted = [self.subject(key) for key in keys]
        values: dict[str, bytes] = {}
        for start in range(0, len(wanted), _MOST_SUBJECTS):
            found, up_to = await self._read_last([*wanted[start : start + _MOST_SUBJECTS], seen.subject])
            if up_to < seen.revision:
                return None
            values |= {m.headers["Nats-Subject"]: m.data for m in found if "KV-Operation" not in m.headers}
        prefix = self.subject("")
        return {name.removeprefix(prefix): values[name] for name in wanted if name in values}

    async def _read_last(self, subjects: Sequence[str]) -> tuple[list[Any], int]:
        """The last messages of subjects from any replica, and how far that replica was."""
        client = await self._session.client()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        found: list[Any] = []
        try:
            body = json.dumps({"multi_last": sorted(set(subjects))}).encode()
            await client.publish(f"$JS.API.DIRECT.GET.{self._stream}", body, reply=inbox)
            while True:
                answer = await subscription.next_msg(_ANSWER_SECONDS)
                if answer.headers.get("Status") == "503":
                    raise nats.errors.NoRespondersError
                if "Status" in answer.headers:
                    return found, int(answer.headers.get("Nats-UpTo-Sequence", 0))
                found.append(answer)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def put(self, key: str, value: bytes, ttl_ms: float) -> None:
        """Store a value whatever was there; MessageTooLargeError, PublishRefusedError."""
        await self._session.publish(self.subject(key), value, ttl_header(ttl_ms))

    async def replace(
        self, key: str, value: bytes, ttl_ms: float, *, seen: Entry, covers: str, write_id: str
    ) -> bool:
        """Store a value unless a key under `covers` has changed since `seen` was read from it.

        False when it has, or when it cannot be told. Repeating one write with the same `write_id`
        stores it once, however often the answer was lost.
        """
        headers = {
            **ttl_header(ttl_ms),
            "Nats-Msg-Id": write_id,
            "Nats-Expected-Last-Subject-Sequence": str(seen.revision),
            "Nats-Expected-Last-Subject-Sequence-Subject": self.subject(covers),
        }
        try:
            await self._session.publish(self.subject(key), value, headers)
        except PublishRefusedError as error:
            if error.code in _NOT_WRITTEN:
                return False
            raise
        return True

    async def remove(self, key: str) -> None:
        """Forget a key, leaving nothing behind; one that is gone is no error."""
        await self._session.api(f"STREAM.PURGE.{self._stream}", {"filter": self.subject(key)})

    async def wait_for(self, key: str, timeout_seconds: float) -> bytes | None:
        """The key's value as soon as there is one; None when there was none within the time.

        Writes are heard of by a subscription; in case one was not, a look every second finds it.
        Raises ConnectionFailed when the server was away at the end.
        """
        deadline = time.monotonic() + timeout_seconds
        heard = asyncio.Event()

        async def hear(_: Msg) -> None:
            heard.set()

        try:
            patience = max(timeout_seconds, self._session.options.connect_timeout_seconds)
            client = await self._session.client(patience)
            subscription = await client.subscribe(self.subject(key), cb=hear)
        except AWAY as error:
            raise connection_error(f"waiting for {self.subject(key)}", error) from error
        try:
            return await self._wait_until(deadline, key, heard)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _wait_until(self, deadline: float, key: str, heard: asyncio.Event) -> bytes | None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            value, trouble = await self._look(key, max(_READ_SECONDS, deadline - time.monotonic()))
            left = deadline - time.monotonic()
            if value is not None:
                return value
            if left <= 0:
                if trouble is not None:
                    raise trouble
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(heard.wait(), min(pause, left))
            # What was heard is on its way into the stream: look soon again.
            pause = _FIRST_PAUSE_SECONDS if heard.is_set() else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            heard.clear()

    async def _look(self, key: str, limit_seconds: float) -> tuple[bytes | None, Exception | None]:
        try:
            async with asyncio.timeout(limit_seconds):
                return (await self.read(key)).value, None
        except (BrokerConnectionError, TimeoutError) as error:
            log.debug("Could not look for %s: %s", key, error)
            return None, error


def _entry(message: dict[str, Any]) -> Entry:
    headers = all_headers(message)
    deleted = "KV-Operation" in headers
    return Entry(
        value=None if deleted else stored_payload(message),
        revision=int(message["seq"]),
        subject=str(message["subject"]),
        write_id=headers.get("Nats-Msg-Id", ""),
    )
