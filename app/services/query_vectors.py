"""Vectors of queries, kept for a minute: pages, filters and columns ask for the same one again and again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.pipeline.embedding.base import Embedder

Vector = NDArray[np.float32]

_SECONDS = 60.0
_MOST = 256  # vectors: a few megabytes


@dataclass(frozen=True, slots=True)
class _Kept:
    embedder: Embedder  # held, so that its identity is not another's meanwhile
    vector: Vector
    until: float


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """Thread-safe. A client of an embedder is another object once the embedder has changed."""

    seconds: float = _SECONDS
    _kept: OrderedDict[tuple[int, str], _Kept] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, embedder: Embedder, text: str) -> Vector:
        """The vector of the query, float32, shape (dimensions,); raises what the embedder raises."""
        key = (id(embedder), text)
        with self._lock:
            known = self._kept.get(key)
        if known is not None and known.until > time.monotonic():
            return known.vector
        vector: Vector = embedder.embed([text], purpose="query").vectors[0]
        with self._lock:
            self._kept[key] = _Kept(embedder, vector, time.monotonic() + self.seconds)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return vector
