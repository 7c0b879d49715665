"""Chunkers for the configurations of transforms; those that embed do so by an embedder of the owner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import NotFoundError, ProviderRefusedError, ProviderUnavailableError
from app.pipeline.chunking import registry
from app.pipeline.chunking.base import Chunker
from app.pipeline.embedding.base import Embedder
from app.pipeline.embedding.isolation import embed_each
from app.pipeline.remote import pause, refuse_late

EMBEDDER_FIELD = "chunking.semantic.embedder_id"
_PATIENCE_SECONDS = 600.0  # of a job's half hour
_LONGEST_WAIT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Chunkers:
    """`embedder` opens the client of an owner's embedder."""

    embedder: Callable[[str, int], Embedder]

    def build(
        self, owner_id: str, raw: Mapping[str, Any], *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> Chunker:
        """The chunker that an owner's `job_config.chunking` asks for, for one document.

        Raises InvalidInputError, and NotFoundError for an embedder that is not the owner's.
        """
        config = registry.parse_chunking_config(raw)
        if config.semantic is None:
            return registry.build(config)
        key = config.semantic.embedder_id
        try:
            client = self.embedder(owner_id, key)
        except NotFoundError as error:
            told = f"{error.message}: name another in {EMBEDDER_FIELD}"
            raise NotFoundError(told, field=EMBEDDER_FIELD) from error
        return registry.build(config, SentenceVectors(client, key, patience_seconds))


@dataclass(slots=True)
class SentenceVectors:
    """Embeds the windows of one document, part by part.

    A run that ends on the way pays for all of them again, as no vector of a sentence is kept. So once a part
    is paid for, a provider that is full for some seconds is waited for, `patience_seconds` in all; one that
    fails is not, lest a worker's threads stand still for it.
    """

    embedder: Embedder
    embedder_id: int
    patience_seconds: float
    _paid: bool = False

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of unit length; of nan for texts that the provider refuses.

        Raises what the embedder raises; ProviderRefusedError names the embedder.
        """
        refuse_late()
        rows = np.full((len(texts), self.embedder.dimensions), np.nan, dtype=np.float32)
        for row, vector in self._vectors(texts).items():
            rows[row] = vector
        self._paid = True
        return rows

    def _vectors(self, texts: Sequence[str]) -> Mapping[int, NDArray[np.float32]]:
        while True:
            try:
                return embed_each(self.embedder, texts).vectors
            except ProviderRefusedError as error:
                told = f"embedder {self.embedder_id}, by which sentences are compared: {error.message}"
                raise ProviderRefusedError(told) from error
            except ProviderUnavailableError as error:
                self._wait(error)

    def _wait(self, error: ProviderUnavailableError) -> None:
        """Until the provider may be called again; raises the error where nobody knows when, or too late."""
        seconds = error.retry_after_seconds
        longest = min(_LONGEST_WAIT_SECONDS, self.patience_seconds) if self._paid else 0.0
        if seconds is None or seconds > longest:
            raise error
        seconds = max(1.0, seconds)
        self.patience_seconds -= seconds
        pause(seconds)
