"""Finds the texts that a provider refuses, so that they fail alone and not with all they were sent with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.errors import InputRefusedError
from app.pipeline.embedding.base import Embedder

# So many refusals in a row, nothing accepted before: it is not the texts. Enough for one bad text to be the
# first of 64 and found by halving (7), twice over.
_HOPELESS = 15


@dataclass(slots=True)
class Isolated:
    """What became of texts: vectors by position, refusals by position, and the counts of Embeddings."""

    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # each of shape (dimensions,)
    refused: dict[int, InputRefusedError] = field(default_factory=dict)
    split: int = 0
    truncated: int = 0
    refusals: int = 0


def embed_each(embedder: Embedder, texts: Sequence[str]) -> Isolated:
    """Embed documents; where some are refused, halve until those stand alone.

    One bad text of n costs about 2·log2(n) calls more. Raises the provider's InputRefusedError when it
    refuses everything, and whatever else Embedder.embed raises.
    """
    found = Isolated()
    _embed(embedder, texts, 0, found)
    return found


def _embed(embedder: Embedder, texts: Sequence[str], offset: int, found: Isolated) -> None:
    if not texts:
        return
    try:
        result = embedder.embed(texts, purpose="document")
    except InputRefusedError as error:
        found.refusals += 1
        if found.refusals >= _HOPELESS and not found.vectors:
            raise
        if len(texts) == 1:
            found.refused[offset] = error
            return
        middle = len(texts) // 2
        _embed(embedder, texts[:middle], offset, found)
        _embed(embedder, texts[middle:], offset + middle, found)
        return
    found.vectors |= {offset + row: vector for row, vector in enumerate(result.vectors)}
    found.split += result.split
    found.truncated += result.truncated
