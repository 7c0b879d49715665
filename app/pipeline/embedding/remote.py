"""What the HTTP providers share: batches, retries, halving, and reading the provider's complaint.

A subclass says how a request looks and where the vectors stand in the answer.
"""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError, ProviderRefusedError, ProviderUnavailableError
from app.pipeline.embedding.base import EmbedderSpec, Embeddings, Purpose
from app.pipeline.embedding.minilm.tokens import SPECIALS, cut_points, estimated_weights, tokenize
from app.pipeline.embedding.pieces import cut_texts, join_vectors
from app.security.outbound import OutboundClient, OutboundResponse

_LOG = logging.getLogger(__name__)

# Other tokenizers cut finer than our WordPiece, on prose and code by up to a fifth: limits keep this far off.
TOKEN_SAFETY_FACTOR = 1.25
_MESSAGE_CHARACTERS = 300
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_TOO_LARGE = ("too large", "too many", "maximum number", "batch size", "tokens per request", "at most")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Short retries in place; whatever lasts longer is left to the job's own schedule."""

    attempts: int = 4
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 5.0
    timeout_seconds: float = 60.0


class RemoteEmbedder(ABC):
    """Embeds through a provider's HTTP interface. Thread-safe."""

    largest_batch = 2048
    default_base_url = ""

    def __init__(self, spec: EmbedderSpec, http: OutboundClient, retry: RetryPolicy | None = None) -> None:
        self._spec = spec
        self._http = http
        self._retry = retry or RetryPolicy()
        self._base_url = (spec.base_url or self.default_base_url).rstrip("/")
        if not self._base_url:
            raise InvalidInputError(
                f"An embedder of provider {spec.provider} needs a base_url.", field="base_url"
            )

    @property
    def dimensions(self) -> int:
        """As configured; every answer is checked against it."""
        return self._spec.dimensions

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Embed any number of texts, in batches of `batch_size` and never more than the provider takes."""
        pieces = cut_texts(texts, self._cut, self._spec.truncate_strategy)
        size = max(1, min(self._spec.batch_size, self.largest_batch))
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(pieces.values), size):
            found.extend(self._batch(pieces.values[start : start + size], purpose))
        vectors = np.concatenate(found) if found else np.zeros((0, self.dimensions), dtype=np.float32)
        return join_vectors(pieces, vectors, self.dimensions)

    # --- what a provider defines ----------------------------------------------------------------------

    @abstractmethod
    def _url(self) -> str:
        """Where to post."""

    @abstractmethod
    def _payload(self, texts: Sequence[str], purpose: Purpose) -> dict[str, object]:
        """The body of the request."""

    @abstractmethod
    def _rows(self, answer: Any) -> list[list[float]]:
        """The vectors in the order of the texts. KeyError, TypeError, ValueError, IndexError mean garbage."""

    # --- batches --------------------------------------------------------------------------------------

    def _batch(self, texts: Sequence[str], purpose: Purpose) -> Iterator[NDArray[np.float32]]:
        response = self._send(self._payload(texts, purpose), purpose)
        if _is_too_large(response) and len(texts) > 1:
            middle = len(texts) // 2
            yield from self._batch(texts[:middle], purpose)
            yield from self._batch(texts[middle:], purpose)
            return
        if not 200 <= response.status < 300:  # noqa: PLR2004 - the success range of HTTP
            raise self._refusal(response)
        yield self._vectors(response, len(texts))

    def _vectors(self, response: OutboundResponse, expected: int) -> NDArray[np.float32]:
        try:
            vectors = np.asarray(self._rows(response.json()), dtype=np.float32)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ProviderUnavailableError(
                f"{self._name} answered something that is not a list of vectors ({type(error).__name__})."
            ) from error
        if vectors.ndim != 2 or len(vectors) != expected:  # noqa: PLR2004 - rows and columns
            raise ProviderUnavailableError(
                f"{self._name} answered {len(vectors) if vectors.ndim else 0} vectors for {expected} texts."
            )
        return vectors

    # --- retries --------------------------------------------------------------------------------------

    def _send(self, payload: dict[str, object], purpose: Purpose) -> OutboundResponse:
        """The first answer that is not worth a retry. Raises ProviderUnavailableError when there is none."""
        attempts = self._retry.attempts if purpose == "document" else min(2, self._retry.attempts)
        for attempt in range(1, attempts + 1):
            failure = self._try_once(payload)
            if isinstance(failure, OutboundResponse):
                return failure
            wait = self._wait_seconds(failure, attempt)
            if attempt == attempts or wait > self._retry.longest_wait_seconds:
                raise failure
            _LOG.info("provider call failed, trying again", extra={"attempt": attempt, "wait_seconds": wait})
            time.sleep(wait)
        raise AssertionError("at least one attempt is made")

    def _try_once(self, payload: dict[str, object]) -> OutboundResponse | ProviderUnavailableError:
        try:
            response = self._http.request(
                "POST",
                self._url(),
                json=payload,
                headers=self._authorization(),
                timeout_seconds=self._retry.timeout_seconds,
            )
        except ProviderUnavailableError as error:
            return error
        if response.status not in _RETRIED:
            return response
        return ProviderUnavailableError(
            f"{self._name} answered {response.status}: {self._complaint(response)}",
            retry_after_seconds=_retry_after_seconds(response.headers),
        )

    def _wait_seconds(self, failure: ProviderUnavailableError, attempt: int) -> float:
        if failure.retry_after_seconds is not None:
            return failure.retry_after_seconds
        ceiling = self._retry.first_wait_seconds * 2 ** (attempt - 1)
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        return float(min(ceiling * jitter, self._retry.longest_wait_seconds))

    # --- details --------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"The provider {self._spec.provider}"

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._spec.api_key}"} if self._spec.api_key else {}

    def _refusal(self, response: OutboundResponse) -> ProviderRefusedError:
        return ProviderRefusedError(
            f"{self._name} refused the request ({response.status}): {self._complaint(response)}"
        )

    def _complaint(self, response: OutboundResponse) -> str:
        """The provider's own words, on one line, bounded, and without our key should they repeat it."""
        text = " ".join(_message(response).split())
        if self._spec.api_key:
            text = text.replace(self._spec.api_key, "[key]")
        return text[:_MESSAGE_CHARACTERS] or "no message"

    def _cut(self, text: str, even: bool) -> list[tuple[str, float]]:  # noqa: FBT001 - a callback
        limit = self._spec.max_input_tokens / TOKEN_SAFETY_FACTOR - SPECIALS
        if len(text.encode()) <= limit:  # no tokenizer makes more tokens than bytes
            return [(text, float(len(text)))]
        tokens = tokenize(text)
        weights = estimated_weights(text, tokens)
        if sum(weights) <= limit:
            return [(text, sum(weights))]
        points = cut_points(weights, tokens.starts_word, limit, even=even)
        edges = [0, *(tokens.spans[point][0] for point in points[1:-1]), len(text)]
        return [
            (text[start:end], sum(weights[first:last]))
            for (start, end), (first, last) in zip(pairwise(edges), pairwise(points), strict=True)
        ]


def _message(response: OutboundResponse) -> str:
    """`error.message`, `message`, `detail` or `error` of a JSON answer; nothing of any other."""
    try:
        answer = response.json()
    except ValueError:
        return ""
    while isinstance(answer, dict):
        answer = next((answer[key] for key in ("error", "message", "detail") if answer.get(key)), "")
    return str(answer)


def _is_too_large(response: OutboundResponse) -> bool:
    if response.status == 413:  # noqa: PLR2004 - Content Too Large
        return True
    complaint = _message(response).lower()
    return response.status in (400, 422) and any(phrase in complaint for phrase in _TOO_LARGE)


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Retry-After, in seconds or as a date (RFC 9110, 10.2.3); None when absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
