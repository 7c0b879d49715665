"""For strategies that cut some stretches their own way, and the rest like the strategy recursive."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from app.pipeline.chunking.config import ChunkingConfig
from app.pipeline.chunking.measures import Measure, measure_for
from app.pipeline.chunking.packing import CutPlan, Packer, Passage
from app.pipeline.chunking.recursive import RecursiveChunker
from app.pipeline.chunking.structure import Outline
from app.pipeline.document import Document

Stretch = tuple[int, int, Iterator[Passage]]


@dataclass(frozen=True)
class Cutting:
    """One document that is being cut."""

    document: Document
    outline: Outline
    config: ChunkingConfig
    plan: CutPlan  # of the strategy recursive

    @cached_property
    def measure(self) -> Measure:
        """The ruler of the whole text."""
        return measure_for(self.config.unit, self.document.text)

    @cached_property
    def _pages(self) -> list[tuple[int, int]]:
        return list(self.outline.page_spans(len(self.document.text)))

    @cached_property
    def _page_starts(self) -> list[int]:
        return [begin for begin, _ in self._pages]

    def fits(self, start: int, end: int) -> bool:
        """Whether a span is no larger than a chunk may be."""
        return self.measure.size(start, end) <= self.config.chunk_size

    def as_text(self, begin: int, end: int) -> Iterator[Passage]:
        """Passages of a stretch as the strategy recursive makes them; none crosses a page."""
        first = max(0, bisect_right(self._page_starts, begin) - 1)
        for low, high in self._pages[first : bisect_right(self._page_starts, end)]:
            yield from self._packed(max(low, begin), min(high, end))

    def _packed(self, begin: int, end: int) -> Iterator[Passage]:
        packer = Packer(self.document.text, self.plan, self.measure, self.config, begin, end)
        for start, stop in packer.spans():
            yield start, stop, ()


class MixedChunker(RecursiveChunker):
    """A chunker with stretches of its own."""

    def stretches(self, cutting: Cutting) -> Iterator[Stretch]:
        """Begin, end and passages of each, in order and apart from each other."""
        raise NotImplementedError

    def _passages(self, document: Document, outline: Outline) -> Iterator[Passage]:
        cutting = Cutting(document, outline, self._config, self.plan(document))
        at = 0
        for begin, end, passages in self.stretches(cutting):
            yield from cutting.as_text(at, begin)
            yield from passages
            at = end
        yield from cutting.as_text(at, len(document.text))
