"""What all HTTP providers share: requests with retries, and reading the provider's complaint.

Everything goes through the guarded client; whose stage it is, a provider need not know.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from app.errors import InputRefusedError, ProviderRefusedError, ProviderUnavailableError
from app.observability import calls
from app.observability.server_metrics import tokens_used
from app.security.outbound import OutboundClient, OutboundResponse, OutboundStream

_LOG = logging.getLogger(__name__)

_MESSAGE_CHARACTERS = 300
_STEP_SECONDS = 0.5
# Bad Request, Conflict, Content Too Large, Unprocessable, Unavailable For Legal Reasons: other texts may do.
_ABOUT_THE_INPUT = frozenset({400, 409, 413, 422, 451})
TOO_MANY_REQUESTS, _FIRST_FAILURE = 429, 400
_MOST_TOKENS = 100_000_000
_GIVEN = ("completion_tokens", "output_tokens", "tokens_generated")
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
# What reading an answer raises that is not what it should be: numbers without end and depths, too.
GARBAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
_late_at: ContextVar[float | None] = ContextVar("late_at", default=None)
_LONGEST_WAIT_SECONDS = 24 * 3600.0  # that a provider may ask for: streams keep no message for ever


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let the calls of this block end by then, tries and pauses included: a person waits for them."""
    token = _late_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _late_at.reset(token)


def seconds_left() -> float:
    """Until the block `within` is over; without end outside of one."""
    late_at = _late_at.get()
    return float("inf") if late_at is None else late_at - time.monotonic()


def refuse_late() -> None:
    """Raises ProviderUnavailableError when the time of a block `within` is up."""
    if seconds_left() <= 0:
        raise ProviderUnavailableError("the provider has not answered all that was asked in time")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Short retries in place; whatever lasts longer is left to the job's own schedule."""

    attempts: int = 4
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 5.0
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Remote:
    """One provider as reached with one key. Thread-safe."""

    provider: str
    http: OutboundClient
    api_key: str | None = field(default=None, repr=False)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def name(self) -> str:
        """How messages begin that speak of it."""
        return f"The provider {self.provider}"

    def post(self, url: str, payload: object, *, attempts: int | None = None) -> OutboundResponse:
        """The first answer that is not worth a retry, whatever its status.

        `attempts` may lower the policy's. Raises ProviderUnavailableError when there is no such answer,
        InvalidInputError(field="base_url") for an address that is not allowed.
        """
        most = min(attempts or self.retry.attempts, self.retry.attempts)
        for attempt in range(1, most + 1):
            answer = self._try_once(url, payload)
            if isinstance(answer, OutboundResponse):
                return answer
            wait = self._wait_seconds(answer, attempt)
            if attempt == most or wait > min(self.retry.longest_wait_seconds, seconds_left()):
                raise answer
            _LOG.info("provider call failed, trying again", extra={"attempt": attempt, "wait_seconds": wait})
            pause(wait)
        raise AssertionError("at least one attempt is made")

    @contextmanager
    def stream(
        self, url: str, payload: object, *, timeout_seconds: float, stopped: threading.Event
    ) -> Iterator[OutboundStream]:
        """The body of the first success as it comes; what fails before its first byte is tried again.

        Raises as `post` and `check` do, also on the way. `stopped` ends the call from any thread.
        """
        with ExitStack() as call:
            for attempt in range(1, self.retry.attempts + 1):
                with ExitStack() as tried:
                    answer = self._open(tried, url, payload, timeout_seconds, stopped)
                    if isinstance(answer, OutboundStream):
                        call.push(tried.pop_all())
                        yield answer
                        return
                wait = self._wait_seconds(answer, attempt)
                if attempt == self.retry.attempts or wait > self.retry.longest_wait_seconds:
                    raise answer
                if stopped.wait(wait):
                    raise answer

    def _open(
        self, call: ExitStack, url: str, payload: object, timeout_seconds: float, stopped: threading.Event
    ) -> OutboundStream | ProviderUnavailableError:
        headers = {**self._headers(), "Accept": "text/event-stream"}
        try:
            with calls.call("provider", self.provider) as made:  # until the answer begins
                stream = call.enter_context(
                    self.http.stream(
                        url, json=payload, headers=headers, timeout_seconds=timeout_seconds, stopped=stopped
                    )
                )
                made.status = _outcome(stream.status)
            if 200 <= stream.status < 300:  # noqa: PLR2004 - the success range of HTTP
                return stream
            response = OutboundResponse(stream.status, stream.headers, b"".join(stream.body))
        except ProviderUnavailableError as error:
            return error
        if response.status in RETRIED_STATUSES:
            return self._passing(response)
        self.check(response)
        raise AssertionError("check refuses what is no success")

    def check(self, response: OutboundResponse) -> None:
        """Raises ProviderRefusedError, in the provider's words, for any status that is not a success.

        InputRefusedError where the status speaks of what was sent, and not of who sends or where to.
        """
        if not 200 <= response.status < 300:  # noqa: PLR2004 - the success range of HTTP
            refused = InputRefusedError if response.status in _ABOUT_THE_INPUT else ProviderRefusedError
            raise refused(f"{self.name} refused the request ({response.status}): {self._complaint(response)}")

    def count_tokens(self, answer: object) -> None:
        """Count the tokens that a success, or the end of a streamed one, says it has cost."""
        taken, given = tokens_in(answer)
        if taken or given:
            tokens_used(self.provider, taken, given)

    def _try_once(self, url: str, payload: object) -> OutboundResponse | ProviderUnavailableError:
        timeout_seconds = min(self.retry.timeout_seconds, max(_STEP_SECONDS, seconds_left()))
        try:
            with calls.call("provider", self.provider) as made:
                response = self.http.request(
                    "POST", url, json=payload, headers=self._headers(), timeout_seconds=timeout_seconds
                )
                made.status = _outcome(response.status)
        except ProviderUnavailableError as error:
            return error
        return response if response.status not in RETRIED_STATUSES else self._passing(response)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def _passing(self, response: OutboundResponse) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"{self.name} answered {response.status}: {self._complaint(response)}",
            retry_after_seconds=retry_after_seconds(response.headers),
        )

    def _wait_seconds(self, failure: ProviderUnavailableError, attempt: int) -> float:
        if failure.retry_after_seconds is not None:
            return failure.retry_after_seconds
        ceiling = self.retry.first_wait_seconds * 2 ** (attempt - 1)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        return float(min(ceiling * jitter, self.retry.longest_wait_seconds))

    def _complaint(self, response: OutboundResponse) -> str:
        try:
            return self.complaint(response.json())
        except ValueError:
            return self.complaint("")

    def complaint(self, answer: object) -> str:
        """The provider's own words, on one line, bounded, and without our key should they repeat it."""
        text = " ".join(message_in(answer).split())
        if self.api_key:
            text = text.replace(self.api_key, "[key]")
        return text[:_MESSAGE_CHARACTERS] or "no message"


def pause(seconds: float) -> None:
    """In steps, because what stops a run from another thread reaches this one only between them."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_SECONDS))


def _outcome(status: int) -> str:
    if status == TOO_MANY_REQUESTS:
        return "rate_limited"
    return "success" if status < _FIRST_FAILURE else "failed"


def tokens_in(answer: object) -> tuple[int, int]:
    """Tokens taken and given, as providers tell them, each in its own words; nought where one does not."""
    told: Any = answer
    for key in ("delta", "meta", "usage", "billed_units", "tokens"):
        inner = told.get(key) if isinstance(told, dict) else None
        told = inner if isinstance(inner, dict) else told
    if not isinstance(told, dict):
        return 0, 0
    taken = told.get("prompt_tokens", told.get("input_tokens", told.get("total_tokens")))
    given = next((told[key] for key in _GIVEN if key in told), None)
    return _count(taken), _count(given)


def _count(value: object) -> int:
    """A number of tokens; whatever else somebody's server may say is none."""
    plausible = isinstance(value, int | float) and 0 < value < _MOST_TOKENS
    return int(value) if plausible and not isinstance(value, bool) else 0  # type: ignore[call-overload]


def message_of(response: OutboundResponse) -> str:
    """What a JSON answer complains of; nothing of any other."""
    try:
        return message_in(response.json())
    except ValueError:
        return ""


def message_in(answer: object) -> str:
    """`error.message`, `message`, `detail` or `error` of an answer that was JSON."""
    while isinstance(answer, dict):
        answer = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), "")
    try:
        return str(answer)
    except RecursionError:
        return ""


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After, in seconds or as a date (RFC 9110, 10.2.3), of at most a day; None when unreadable."""
    value = headers.get("retry-after", "").strip()
    try:
        asked = float(value) if value.replace(".", "", 1).isdecimal() else _seconds_until(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, asked), _LONGEST_WAIT_SECONDS)


def _seconds_until(date: str) -> float:
    return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
