"""Fills chunks: from each start as far as the size allows, ending at the best place to cut."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from app.pipeline.chunking.base import Chunk
from app.pipeline.chunking.boundaries import splits_letter, whole_letter_cut
from app.pipeline.chunking.config import ChunkingConfig
from app.pipeline.chunking.measures import Measure, measure_for
from app.pipeline.chunking.structure import Outline
from app.pipeline.chunking.wordpiece import count_tokens
from app.pipeline.document import Document

Cuts = Sequence[int]  # sorted positions
Passage = tuple[int, int, tuple[str, ...]]  # start, end, and names below the headings that it stands under
_BLANKS = re.compile(r"\s*")
_COUNTED_AT_ONCE = 256
_OVERLAP_TRIES = 8


@dataclass(frozen=True, slots=True)
class CutPlan:
    """Where to cut, by preference.

    `strong` places are taken wherever they leave at least `min_chunk_size`; `weak` ones, in their order,
    when the chunk is at least half full; `inside` ones only when nothing else lies in reach.
    """

    weak: Sequence[Cuts]
    strong: Sequence[Cuts] = field(default=())
    inside: Sequence[Cuts] = field(default=())
    overlap: Sequence[Cuts] = field(default=())  # where a repeated part may begin, best first


class Packer:
    """Spans of the chunks of one stretch of a text: `begin` to `end`."""

    def __init__(
        self, text: str, plan: CutPlan, measure: Measure, config: ChunkingConfig, begin: int, end: int
    ) -> None:
        self._text = text
        self._plan = plan
        self._measure = measure
        self._size, self._overlap = config.chunk_size, config.chunk_overlap
        self._minimum = config.min_chunk_size
        self._begin = begin
        self._length = begin + len(text[begin:end].rstrip())

    def spans(self) -> Iterator[tuple[int, int]]:
        """Start and end of each chunk: no blanks at the rims, everything else covered, in order."""
        start = fresh = self._skip_blanks(self._begin)  # `fresh`: where the text not yet in any chunk begins
        while fresh < self._length:
            cut, end, good = self._end(start, fresh)
            if start < fresh and not good:  # the repeated part leaves too little room
                start = fresh
                cut, end, _ = self._end(start, fresh)
            yield start, end
            fresh = self._skip_blanks(cut)
            start = self._overlap_start(start, end, fresh)

    def _skip_blanks(self, position: int) -> int:
        match = _BLANKS.match(self._text, position)
        return match.end() if match else position

    def _stripped_end(self, start: int, cut: int) -> int:
        return start + len(self._text[start:cut].rstrip())

    def _end(self, start: int, floor: int) -> tuple[int, int, bool]:
        """Where to cut after `floor`, where the last letter before it ends, and whether that is good.

        Good: at one of the plan's strong or weak places, and the chunk within the size.
        """
        reach = min(self._length, self._measure.reach(start, self._size))
        while True:
            cut, planned = self._best_cut(start, floor, max(reach, floor + 1))
            end = self._stripped_end(start, cut)
            size = self._measure.size(start, end)
            if size <= self._size or cut <= floor + 1:
                return cut, end, planned and size <= self._size
            # Cutting inside a word made more tokens of it than the index said.
            reach = min(cut - 1, floor + max(1, (cut - floor) * self._size // size))

    def _best_cut(self, start: int, floor: int, reach: int) -> tuple[int, bool]:
        if reach >= self._length:
            return self._length, True
        reach = self._leave_enough(floor, reach)
        least = max(floor, self._measure.reach(start, self._minimum))
        half = max(floor, self._measure.reach(start, self._size // 2))
        plan = self._plan
        passes = ((plan.strong, least), (plan.weak, half), (plan.weak, least), (plan.strong, floor))
        for levels, low in (*passes, (plan.weak, floor)):
            cut = self._last_cut(levels, low, reach)
            if cut is not None:
                return cut, True
        cut = self._last_cut(plan.inside, floor, reach)
        if cut is not None:
            return cut, False
        return whole_letter_cut(self._text, reach, floor), False

    def _last_cut(self, levels: Sequence[Cuts], low: int, high: int) -> int | None:
        """The largest cut with low < cut <= high of the first level that has one."""
        for cuts in levels:
            index = bisect_right(cuts, high) - 1
            if index >= 0 and cuts[index] > low and not splits_letter(self._text, cuts[index]):
                return cuts[index]
        return None

    def _leave_enough(self, floor: int, reach: int) -> int:
        """Cut earlier when the rest would be shorter than the minimum."""
        tail = self._measure.back(self._length, self._minimum)
        return tail if floor < tail < reach else reach

    def _overlap_start(self, start: int, end: int, fresh: int) -> int:
        """Where the next chunk begins: at most `chunk_overlap` before the end of this one."""
        if not self._overlap or fresh >= self._length:
            return fresh
        low = max(start + 1, self._measure.back(end, self._overlap))
        for cuts in self._plan.overlap:
            first = bisect_left(cuts, low)
            for cut in cuts[first : first + _OVERLAP_TRIES]:
                candidate = self._skip_blanks(cut)
                if candidate >= end:
                    break
                if not splits_letter(self._text, candidate) and (
                    self._measure.size(candidate, end) <= self._overlap
                ):
                    return candidate
        return fresh


class PackingChunker:
    """A chunker whose strategy is its plan of cuts."""

    def __init__(self, config: ChunkingConfig) -> None:
        self._config = config

    def plan(self, document: Document) -> CutPlan:
        """Where this strategy cuts."""
        raise NotImplementedError

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Yield chunks with exact spans, token counts, pages and heading paths."""
        if not document.text.strip():
            return
        outline = Outline(document)
        passages = self._passages(document, outline)
        while batch := list(islice(passages, _COUNTED_AT_ONCE)):
            texts = [document.text[start:end] for start, end, _ in batch]
            for (start, end, names), text, tokens in zip(batch, texts, count_tokens(texts), strict=True):
                path = (*outline.heading_path(start), *names)
                yield Chunk(text, start, end, tokens, outline.page(start), path)

    def _passages(self, document: Document, outline: Outline) -> Iterator[Passage]:
        for start, end in self._spans(document, outline):
            yield start, end, ()

    def _spans(self, document: Document, outline: Outline) -> Iterator[tuple[int, int]]:
        """No chunk crosses a page: whoever cites a passage can name the page it is on."""
        text, plan = document.text, self.plan(document)
        measure = measure_for(self._config.unit, text)
        for begin, end in outline.page_spans(len(text)):
            yield from Packer(text, plan, measure, self._config, begin, end).spans()
