"""The client for providers: every call passes the limits and the circuit that the whole fleet shares.

A provider is an address called with one key: what an owner does at it is nothing to another with a key of
their own.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from dramatiq.errors import BrokerError
from dramatiq.rate_limits import ConcurrentRateLimiter, RateLimiterBackend

from app.errors import ProviderPausedError, ProviderUnavailableError, RateLimitedError
from app.pipeline.remote import RETRIED_STATUSES, TOO_MANY_REQUESTS, retry_after_seconds
from app.security.outbound import OutboundClient, OutboundOptions, OutboundResponse, OutboundStream
from app.security.tokens import digest
from app.services.provider_circuits import Passage, ProviderCircuits
from app.services.rate_limits import Limit, RateLimits

_LOG = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 300.0
_SLOT_PATIENCE_SECONDS = 10.0
_MARGIN_SECONDS = 5.0  # after a call must have ended, until what it holds is free by itself


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all processes share about providers. Of one at a time: `most_at_once` calls; 0 is no limit."""

    circuits: ProviderCircuits
    rates: RateLimits
    slots: Callable[[], RateLimiterBackend]
    most_at_once: int = 0
    per_minute: int = 0


class ProviderClient(OutboundClient):
    """As OutboundClient; raises ProviderPausedError besides, where a call must wait its turn."""

    def __init__(self, options: OutboundOptions, fleet: Fleet) -> None:
        super().__init__(options)
        self._fleet = fleet

    def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> OutboundResponse:
        """See OutboundClient."""
        with self._admitted(url, headers, timeout_seconds) as passage:
            try:
                answer = super().request(
                    method, url, json=json, content=content, headers=headers, timeout_seconds=timeout_seconds
                )
            except ProviderUnavailableError:
                self._fleet.circuits.failed(passage, "gave no answer")
                raise
            self._judge(passage, answer.status, answer.headers)
            return answer

    @contextmanager
    def stream(
        self,
        url: str,
        *,
        json: object,
        headers: Mapping[str, str],
        timeout_seconds: float,
        stopped: threading.Event,
    ) -> Iterator[OutboundStream]:
        """See OutboundClient; an answer that breaks off counts as none."""
        with self._admitted(url, headers, timeout_seconds) as passage:
            try:
                with super().stream(
                    url, json=json, headers=headers, timeout_seconds=timeout_seconds, stopped=stopped
                ) as answer:
                    self._judge(passage, answer.status, answer.headers)
                    yield answer
            except ProviderUnavailableError:
                if not stopped.is_set():  # else it was the reader who left
                    self._fleet.circuits.failed(passage, "gave no answer")
                raise

    @contextmanager
    def _admitted(
        self, url: str, headers: Mapping[str, str] | None, timeout_seconds: float
    ) -> Iterator[Passage]:
        self.check(url)
        host = urlsplit(url).hostname or url
        key = digest(f"{url}\0{(headers or {}).get('Authorization', '')}")
        held_seconds = timeout_seconds + _MARGIN_SECONDS
        with ExitStack() as call:
            if self._fleet.most_at_once:
                self._take_slot(call, key, host, held_seconds)
            self._count(key, host)
            yield self._fleet.circuits.enter(key, host, timeout_seconds=held_seconds)

    def _judge(self, passage: Passage, status: int, headers: Mapping[str, str]) -> None:
        asked = retry_after_seconds(headers) if status in RETRIED_STATUSES else None
        if status == TOO_MANY_REQUESTS:
            asked = asked or (1.0 if passage.is_probe else None)  # full, and well
        elif status in RETRIED_STATUSES:
            self._fleet.circuits.failed(passage, f"answered {status}")
        else:
            self._fleet.circuits.succeeded(passage)
        if asked:
            self._fleet.circuits.pause(passage, min(asked, _LONGEST_PAUSE_SECONDS))

    def _count(self, key: str, host: str) -> None:
        try:
            self._fleet.rates.count(Limit(f"provider:{key}", self._fleet.per_minute, f"to {host}"))
        except RateLimitedError as error:
            raise ProviderPausedError(
                f"{error.message} (PROVIDER_REQUESTS_PER_MINUTE); they wait their turn.",
                retry_after_seconds=error.retry_after_seconds,
            ) from error

    def _take_slot(self, call: ExitStack, key: str, host: str, held_seconds: float) -> None:
        """Hold one of the slots until the call ends; each is a key of its own: a dead holder's ends."""
        until = time.monotonic() + _SLOT_PATIENCE_SECONDS
        try:
            while not self._found_slot(call, key, held_seconds):
                if time.monotonic() > until:
                    raise ProviderPausedError(
                        f"{self._fleet.most_at_once} calls to {host} are under way, which is the most "
                        "(PROVIDER_MAX_CONCURRENT_REQUESTS); they wait their turn.",
                        retry_after_seconds=_MARGIN_SECONDS,
                    )
                time.sleep(random.uniform(0.05, 0.25))  # noqa: S311 - spreads rivals, guards nothing
        except BrokerError as error:  # as with all limits: nobody is refused because we cannot count
            _LOG.warning("calls to providers are not counted: %s", error)

    def _found_slot(self, call: ExitStack, key: str, held_seconds: float) -> bool:
        most = self._fleet.most_at_once
        for slot in random.sample(range(most), most):
            name = f"provider.{key}.{slot}"
            limiter = ConcurrentRateLimiter(  # type: ignore[no-untyped-call]
                self._fleet.slots(), name, ttl=int(held_seconds * 1000)
            )
            if call.enter_context(_quietly(limiter)):
                return True
        return False


@contextmanager
def _quietly(limiter: ConcurrentRateLimiter) -> Iterator[bool]:
    """Whether the slot is ours. One that cannot be given back frees itself."""
    with ExitStack() as held:
        acquired = held.enter_context(limiter.acquire(raise_on_failure=False))
        release = held.pop_all().close
        try:
            yield bool(acquired)
        finally:
            try:
                release()
            except BrokerError as error:
                _LOG.warning("a slot for calls to a provider is free only later: %s", error)
