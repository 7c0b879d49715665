"""The `local` provider: all-MiniLM-L6-v2 on this machine's processor, without network or PyTorch.

Texts run one by one on as many threads as there are cores, longest first: no padding, and the vector of a
text is the same whatever else is in the batch, in a document or in a query.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import DimensionMismatchError, InvalidInputError
from app.pipeline.embedding.base import EmbedderSpec, Embeddings, Purpose
from app.pipeline.embedding.minilm.session import Model, load_model
from app.pipeline.embedding.minilm.tokens import SPECIALS, cut_points, tokenize
from app.pipeline.embedding.minilm.weights import DIMENSIONS, MAX_TOKENS
from app.pipeline.embedding.pieces import Pieces, cut_texts, join_vectors

MODEL = "all-MiniLM-L6-v2"

_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


class LocalEmbedder:
    """Embeds on this machine. The model is loaded, and on the first run ever made, by the first `embed`."""

    def __init__(self, spec: EmbedderSpec, *, cache_dir: Path, threads: int | None = None) -> None:
        """`threads` defaults to the cores this process may use; `max_input_tokens` counts up to 256."""
        if spec.model != MODEL:
            raise InvalidInputError(
                f"The local provider has the model {MODEL}, not {spec.model!r}.", field="model"
            )
        if spec.dimensions != DIMENSIONS:
            raise DimensionMismatchError(
                f"{MODEL} makes vectors of {DIMENSIONS} dimensions, the embedder says {spec.dimensions}.",
                field="dimensions",
            )
        self._cache_dir = cache_dir
        self._threads = threads or available_cores()
        self._strategy = spec.truncate_strategy
        self._limit = min(spec.max_input_tokens, MAX_TOKENS) - SPECIALS

    @property
    def dimensions(self) -> int:
        """384."""
        return DIMENSIONS

    def warm(self) -> None:
        """Load the model now, so that the first text does not wait for it."""
        load_model(self._cache_dir)

    def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:  # noqa: ARG002 - one space for both
        """Embed any number of texts. Raises InvalidInputError; UnavailableError without weights."""
        pieces = cut_texts(texts, self._cut, self._strategy)
        vectors = self._vectors(load_model(self._cache_dir), pieces)
        return join_vectors(pieces, vectors, DIMENSIONS)

    def _cut(self, text: str, even: bool) -> list[tuple[list[int], float]]:  # noqa: FBT001 - a callback
        tokens = tokenize(text)
        if len(tokens.ids) <= self._limit:
            return [(tokens.ids, 1.0)]  # no ids for, say, a lone zero-width joiner: [CLS] and [SEP] remain
        points = cut_points([1.0] * len(tokens.ids), tokens.starts_word, self._limit, even=even)
        return [(tokens.ids[start:end], float(end - start)) for start, end in pairwise(points)]

    def _vectors(self, model: Model, pieces: Pieces[list[int]]) -> NDArray[np.float32]:
        vectors = np.empty((len(pieces.values), DIMENSIONS), dtype=np.float32)

        def fill(index: int) -> None:
            vectors[index] = model.vector(pieces.values[index])

        longest_first = sorted(range(len(pieces.values)), key=lambda index: -len(pieces.values[index]))
        if len(longest_first) == 1 or self._threads == 1:
            for index in longest_first:
                fill(index)
        else:
            list(_pool(self._threads).map(fill, longest_first))
        return vectors


def available_cores() -> int:
    """Processor cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _pool(threads: int) -> ThreadPoolExecutor:
    """One pool per process and size, shared by all embedders: many jobs at once do not mean many threads."""
    key = (os.getpid(), threads)
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="local-embedder")
        return _pools[key]


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread may have held the parent's lock at the fork
    _lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_after_fork)
