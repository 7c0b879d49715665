"""Rulers: how far a chunk of a given size reaches, in characters or in tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Protocol

from app.pipeline.chunking.config import Unit
from app.pipeline.chunking.wordpiece import BREAKS, count_tokens, token_spans


class Measure(Protocol):
    """Sizes of spans of one text."""

    def size(self, start: int, end: int) -> int:
        """Exact size of `text[start:end]`."""
        ...

    def reach(self, start: int, size: int) -> int:
        """About the largest end such that the span's size is at most `size`."""
        ...

    def back(self, end: int, size: int) -> int:
        """About the smallest start such that the span's size is at most `size`."""
        ...


class CharacterMeasure:
    """Counts code points."""

    def __init__(self, text: str) -> None:
        self._length = len(text)

    def size(self, start: int, end: int) -> int:
        """Exact size of a span."""
        return end - start

    def reach(self, start: int, size: int) -> int:
        """Largest end within `size`."""
        return min(self._length, start + size)

    def back(self, end: int, size: int) -> int:
        """Smallest start within `size`."""
        return max(0, end - size)


class TokenMeasure:
    """Counts WordPiece tokens; exact at word boundaries by an index, elsewhere by asking the tokenizer."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts, self._ends = token_spans(text)

    def size(self, start: int, end: int) -> int:
        """Exact size of a span."""
        if self._between_words(start) and self._between_words(end):
            return bisect_left(self._starts, end) - bisect_left(self._starts, start)
        return count_tokens([self._text[start:end]])[0]

    def reach(self, start: int, size: int) -> int:
        """Largest end within `size`."""
        first_left_out = bisect_left(self._starts, start) + size
        if first_left_out >= len(self._starts):
            return len(self._text)
        return max(start, self._starts[first_left_out])

    def back(self, end: int, size: int) -> int:
        """Smallest start within `size`."""
        first = bisect_right(self._ends, end) - size
        return 0 if first <= 0 else min(end, self._starts[first] if size else end)

    def _between_words(self, position: int) -> bool:
        text = self._text
        return position in (0, len(text)) or text[position] in BREAKS or text[position - 1] in BREAKS


def measure_for(unit: Unit, text: str) -> Measure:
    """The ruler for a text."""
    return TokenMeasure(text) if unit == "tokens" else CharacterMeasure(text)
