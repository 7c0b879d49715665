"""The port of the embedding stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInputError

Purpose = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """Everything needed to build an embedder; `api_key` is in the clear and lives only in memory."""

    provider: str  # a name in registry.PROVIDERS
    model: str
    dimensions: int
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    batch_size: int = 32
    max_input_tokens: int = 256
    truncate_strategy: Literal["split", "truncate", "error"] = "split"
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors[i]` belongs to the i-th text: float32, shape (n, dimensions), unit length."""

    vectors: NDArray[np.float32]
    truncated: int = 0  # texts cut at the model's limit
    split: int = 0  # texts embedded in several parts and averaged


class UnfitTextsError(InvalidInputError):
    """Texts that cannot be embedded as they are, by position; found before anything was sent."""

    def __init__(self, errors: Mapping[int, InvalidInputError]) -> None:
        first, error = min(errors.items())
        super().__init__(f"Text {first + 1}: {error.message}", field=error.field)
        self.errors = errors


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def dimensions(self) -> int:
        """Length of every vector."""
        ...

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        """Embed any number of texts, in batches the provider accepts.

        Raises ProviderRefusedError, ProviderUnavailableError, DimensionMismatchError, InvalidInputError;
        UnfitTextsError for texts that are empty, no Unicode, or too long where those shall fail.
        """
        ...
