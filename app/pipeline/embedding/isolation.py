"""Finds the texts that a provider refuses, so that they fail alone and not with all they were sent with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.errors import InputRefusedError
from app.pipeline.embedding.base import Embedder, UnfitTextsError

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
    """Embed documents; what is unfit is left out, and where some are refused, halve until those stand alone.

    One bad text of n costs about 2·log2(n) calls more, an unfit one none. Raises the provider's
    InputRefusedError when it refuses everything, and whatever else Embedder.embed raises.
    """
    found = Isolated()
    _embed(embedder, texts, range(len(texts)), found)
    return found


def _embed(embedder: Embedder, texts: Sequence[str], rows: Sequence[int], found: Isolated) -> None:
    if not rows:
        return
    try:
        result = embedder.embed([texts[row] for row in rows], purpose="document")
    except UnfitTextsError as error:
        found.refused |= {
            rows[index]: InputRefusedError(each.message) for index, each in error.errors.items()
        }
        _embed(embedder, texts, [row for row in rows if row not in found.refused], found)
        return
    except InputRefusedError as error:
        found.refusals += 1
        if found.refusals >= _HOPELESS and not found.vectors:
            raise
        if len(rows) == 1:
            found.refused[rows[0]] = error
            return
        middle = len(rows) // 2
        _embed(embedder, texts, rows[:middle], found)
        _embed(embedder, texts, rows[middle:], found)
        return
    found.vectors |= dict(zip(rows, result.vectors, strict=True))
    found.split += result.split
    found.truncated += result.truncated
