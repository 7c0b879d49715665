"""What the HTTP embedders share: batches, halving, and reading vectors.

A subclass says how a request looks and where the vectors stand in the answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError, ProviderUnavailableError
from app.pipeline.embedding.base import EmbedderSpec, Embeddings, Purpose
from app.pipeline.embedding.minilm.tokens import SPECIALS, cut_points, estimated_weights, tokenize
from app.pipeline.embedding.pieces import cut_texts, join_vectors
from app.pipeline.remote import GARBAGE, Remote, RetryPolicy, message_of
from app.security.outbound import OutboundClient, OutboundResponse

# Other tokenizers cut finer than our WordPiece, on prose and code by up to a fifth: limits keep this far off.
TOKEN_SAFETY_FACTOR = 1.25
_QUERY_ATTEMPTS = 2
_TOO_LARGE = ("too large", "too many", "maximum number", "batch size", "tokens per request", "at most")


class RemoteEmbedder(ABC):
    """Embeds through a provider's HTTP interface. Thread-safe."""

    largest_batch = 2048
    default_base_url = ""

    def __init__(self, spec: EmbedderSpec, http: OutboundClient, retry: RetryPolicy | None = None) -> None:
        self._spec = spec
        self._remote = Remote(spec.provider, http, spec.api_key, retry or RetryPolicy())
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
        """The vectors in the order of the texts. One of `GARBAGE` means that it is none."""

    # --- batches --------------------------------------------------------------------------------------

    def _batch(self, texts: Sequence[str], purpose: Purpose) -> Iterator[NDArray[np.float32]]:
        # A person waits for a query: better an error soon than an answer late.
        attempts = None if purpose == "document" else _QUERY_ATTEMPTS
        response = self._remote.post(self._url(), self._payload(texts, purpose), attempts=attempts)
        if _is_too_large(response) and len(texts) > 1:
            middle = len(texts) // 2
            yield from self._batch(texts[:middle], purpose)
            yield from self._batch(texts[middle:], purpose)
            return
        self._remote.check(response)
        yield self._vectors(response, len(texts))

    def _vectors(self, response: OutboundResponse, expected: int) -> NDArray[np.float32]:
        try:
            answer = response.json()
            self._remote.count_tokens(answer)
            vectors = np.asarray(self._rows(answer), dtype=np.float32)
        except GARBAGE as error:
            raise ProviderUnavailableError(
                f"{self._remote.name} answered something that is not a list of vectors "
                f"({type(error).__name__})."
            ) from error
        if vectors.ndim != 2 or len(vectors) != expected:  # noqa: PLR2004 - rows and columns
            found = len(vectors) if vectors.ndim else 0
            raise ProviderUnavailableError(
                f"{self._remote.name} answered {found} vectors for {expected} texts."
            )
        return vectors

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


def _is_too_large(response: OutboundResponse) -> bool:
    if response.status == 413:  # noqa: PLR2004 - Content Too Large
        return True
    complaint = message_of(response).lower()
    return response.status in (400, 422) and any(phrase in complaint for phrase in _TOO_LARGE)
