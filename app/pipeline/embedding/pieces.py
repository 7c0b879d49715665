"""Texts longer than a model reads: split into pieces, truncated or refused; counted, never silently cut.

Shared by all providers. A piece is what the provider sends: token ids for the local model, else text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import DimensionMismatchError, InvalidInputError, ProviderUnavailableError
from app.pipeline.embedding.base import Embeddings, UnfitTextsError

Strategy = Literal["split", "truncate", "error"]
T = TypeVar("T")

# (text, even) -> at least one piece, with its weight in tokens; `even` asks for parts of equal size.
Cutter = Callable[[str, bool], list[tuple[T, float]]]


@dataclass(frozen=True, slots=True)
class Pieces(Generic[T]):
    """`values[i]` is a part of text `owners[i]` and holds `weights[i]` tokens; texts keep their order."""

    values: list[T]
    owners: list[int]
    weights: list[float]
    texts: int
    truncated: int = 0
    split: int = 0


def cut_texts(texts: Sequence[str], cut: Cutter[T], strategy: Strategy) -> Pieces[T]:
    """Apply `strategy` to every text. Raises UnfitTextsError that holds all that cannot be embedded."""
    values: list[T] = []
    owners: list[int] = []
    weights: list[float] = []
    unfit: dict[int, InvalidInputError] = {}
    long = 0
    for index, text in enumerate(texts):
        try:
            found = _cut_one(text, cut, strategy)
        except InvalidInputError as error:
            unfit[index] = error
            continue
        long += len(found) > 1
        for value, weight in found[:1] if strategy == "truncate" else found:
            values.append(value)
            owners.append(index)
            weights.append(weight)
    if unfit:
        raise UnfitTextsError(unfit)
    counts = {"truncated": long} if strategy == "truncate" else {"split": long}
    return Pieces(values, owners, weights, len(texts), **counts)


def _cut_one(text: str, cut: Cutter[T], strategy: Strategy) -> list[tuple[T, float]]:
    _check(text)
    found = cut(text, strategy == "split")
    if len(found) > 1 and strategy == "error":
        tokens = round(sum(weight for _, weight in found))
        raise InvalidInputError(
            f"it has about {tokens} tokens, more than the embedder's max_input_tokens; make chunks smaller, "
            'or use an embedder whose truncate_strategy is "split" or "truncate".',
            field="truncate_strategy",
        )
    return found


def _check(text: str) -> None:
    if not text.strip():
        raise InvalidInputError("it is empty; nothing to embed.", field="texts")
    if not _is_unicode(text):
        raise InvalidInputError("it is not valid Unicode.", field="texts")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def join_vectors(pieces: Pieces[T], vectors: NDArray[np.float32], dimensions: int) -> Embeddings:
    """The token-weighted mean of each text's pieces, brought to unit length."""
    unit = unit_rows(vectors, dimensions)
    if len(unit) != pieces.texts:
        sums = np.zeros((pieces.texts, dimensions), dtype=np.float32)
        np.add.at(sums, pieces.owners, unit * np.asarray(pieces.weights, dtype=np.float32)[:, None])
        unit = unit_rows(sums, dimensions)
    return Embeddings(unit, truncated=pieces.truncated, split=pieces.split)


def unit_rows(vectors: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Rows of unit length. Raises DimensionMismatchError; ProviderUnavailableError for zeros and NaN."""
    if vectors.size == 0:
        return np.zeros((0, dimensions), dtype=np.float32)
    if vectors.shape[1] != dimensions:
        raise DimensionMismatchError(
            f"The model returned {vectors.shape[1]} dimensions, the embedder says {dimensions}; "
            "correct the embedder's dimensions.",
            field="dimensions",
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise ProviderUnavailableError("The provider returned a vector that is zero or not a number.")
    return np.asarray(vectors / lengths, dtype=np.float32)
