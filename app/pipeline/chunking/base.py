"""The port of the chunking stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.pipeline.document import Document

# Vectors of texts, as rows of unit length; of nan for a text that its provider does not take.
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `document.text[start:end] == text`, exactly."""

    text: str
    start: int
    end: int
    token_count: int  # by the local WordPiece tokenizer
    page: int | None = None  # of the first character; counts from 1
    heading_path: tuple[str, ...] = ()  # outermost first


class Chunker(Protocol):
    """Cuts a document into passages, in reading order."""

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Yield the chunks; an empty document yields none."""
        ...
