"""Dramatiq's rate limiters and barriers on a NATS key-value bucket.

Every change is a compare-and-set: read, decide, and write only if nothing has changed since; who was
too slow reads again. So limits hold across threads, processes and machines.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.errors import BrokerConnectionError
from dramatiq.rate_limits import RateLimiterBackend

from brokers.jetstream.errors import AWAY, ContentionError, JetStreamError, connection_error
from brokers.jetstream.kv import ABSENT, Bucket, Entry, connection_of, encode_key
from brokers.jetstream.options import BrokerOptions

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from brokers.jetstream.broker import JetStreamBroker

T = TypeVar("T")
Decide = Callable[[int | None], int | None]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.1
_WAIT_SLICE_SECONDS = 60.0
_MARGIN_SECONDS = 10.0


class JetStreamRateLimiterBackend(RateLimiterBackend):
    """Counters in the bucket `options.limits_bucket` (created by topology.apply).

    source    a broker, whose connection is shared, or options for a connection of its own

    Usable from any thread, greenlet and forked process. Times to live are kept by the server, rounded
    up to whole seconds. Every method raises Dramatiq's connection errors when the server is away, and
    ContentionError when others were faster for publish_timeout_seconds. A message that is being
    wrapped up (GroupCallbacks) is then given back, not acknowledged.
    """

    def __init__(self, source: JetStreamBroker | BrokerOptions) -> None:
        self._broker = None if isinstance(source, BrokerOptions) else source
        self.connection = connection_of(source)
        self.options = self.connection.options

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Set a key for `ttl` ms unless it exists; whether it was set."""
        return self._change(key, lambda old: value if old is None else None, ttl)

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add to a key (0 when absent) unless that exceeds `maximum`; whether it was changed."""

        def decide(old: int | None) -> int | None:
            new = (old or 0) + amount
            return new if new <= maximum else None

        return self._change(key, decide, ttl)

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Subtract from a key (0 when absent) unless that falls below `minimum`; whether it was changed."""

        def decide(old: int | None) -> int | None:
            new = (old or 0) - amount
            return new if new >= minimum else None

        return self._change(key, decide, ttl)

    def incr_and_sum(
        self, key: str, keys: Callable[[], Sequence[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Add to a key unless the sum over `keys()` would exceed `maximum`; whether it was changed.

        Exact whoever else changes any of the keys meanwhile.
        """
        return self._run(self._add_within_sum(encode_key(key), keys, amount, maximum, ttl))

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait for `wait_notify` on a key, up to `timeout` ms (None: for ever); whether it came.

        A notification that came before, and still lives, counts.
        """
        deadline = None if timeout is None else time.monotonic() + timeout / 1000
        while True:
            left = _WAIT_SLICE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            seconds = min(left, _WAIT_SLICE_SECONDS)
            waiting = self._bucket().wait_for(encode_key(key), seconds)
            if self.connection.run(waiting, timeout_seconds=seconds + _MARGIN_SECONDS) is not None:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def wait_notify(self, key: str, ttl: int) -> None:
        """Let those who wait on a key, or will within `ttl` ms, go on."""
        self._run(self._bucket().put(encode_key(key), b"1", ttl))

    def close(self) -> None:
        """Close a connection of its own; the broker's is the broker's to close. Never raises."""
        if self._broker is None:
            self.connection.close()

    def _change(self, key: str, decide: Decide, ttl: int) -> bool:
        return self._run(self._decide_alone(encode_key(key), decide, ttl))

    async def _decide_alone(self, key: str, decide: Decide, ttl: int) -> bool:
        """Let one key's new value follow from its old one."""
        bucket, write_id = self._bucket(), uuid.uuid4().hex

        async def attempt() -> bool | None:
            seen = await bucket.read(key)
            if seen.write_id == write_id:
                return True
            new = decide(_number(key, seen.value))
            return await _write(bucket, key, new, ttl, seen=seen, covers=key, write_id=write_id)

        return await self._until_first(key, attempt)

    async def _add_within_sum(
        self, key: str, keys: Callable[[], Sequence[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Let a key's new value follow from many; a change of any key of their family is noticed."""
        bucket, write_id = self._bucket(), uuid.uuid4().hex

        async def attempt() -> bool | None:
            summed = [encode_key(each) for each in keys()]
            covers = _family([key, *summed])
            seen = await bucket.read(covers)
            if seen.write_id == write_id:
                return True
            values = await _numbers(bucket, {key, *summed}, seen)
            if values is None:
                return None
            new = values.get(key, 0) + amount
            total = amount + sum(values.get(each, 0) for each in summed)
            allowed = new if max(new, total) <= maximum else None
            return await _write(bucket, key, allowed, ttl, seen=seen, covers=covers, write_id=write_id)

        return await self._until_first(key, attempt)

    async def _until_first(self, key: str, attempt: Callable[[], Awaitable[bool | None]]) -> bool:
        """Repeat an attempt that others overtook (None), after a random pause, until the time is over."""
        begin, tries, pause = time.monotonic(), 0, _FIRST_PAUSE_SECONDS
        trouble: BaseException | None = None
        while time.monotonic() - begin < self.options.publish_timeout_seconds:
            tries += 1
            try:
                outcome, trouble = await attempt(), None
            except AWAY as error:
                outcome, trouble = None, error
            if outcome is not None:
                return outcome
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 (spreads rivals, keeps no secret)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if trouble is not None:
            raise connection_error(f"changing {key}", trouble) from trouble
        raise ContentionError(f"changing {key}: others were faster {tries} times in a row")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self.connection.run(work)
        except (BrokerConnectionError, ContentionError):
            if self._broker is not None:
                self._broker.hand_back_current()
            raise

    def _bucket(self) -> Bucket:
        return Bucket(self.connection.session(), self.options.limits_bucket)


async def _write(
    bucket: Bucket, key: str, new: int | None, ttl: int, *, seen: Entry, covers: str, write_id: str
) -> bool | None:
    """False when there is nothing to write, True when it is written, None when others were faster."""
    if new is None:
        return False
    body = str(new).encode()
    done = await bucket.replace(key, body, ttl, seen=seen, covers=covers, write_id=write_id)
    return done or None


async def _numbers(bucket: Bucket, keys: set[str], seen: Entry) -> dict[str, int] | None:
    if seen == ABSENT:
        return {}
    values = await bucket.read_all(keys, seen)
    return None if values is None else {key: _number(key, value) or 0 for key, value in values.items()}


def _number(key: str, value: bytes | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        raise JetStreamError(f"the rate limit {key} holds {value!r}, which is no number") from None


def _family(keys: Sequence[str]) -> str:
    """The narrowest wildcard over keys: of their common family, else of the whole bucket."""
    families = {key.rpartition(".")[0] for key in keys}
    family = families.pop()
    return f"{family}.*" if family and not families else ">"
