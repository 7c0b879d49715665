"""Cuts where the subject changes: where a sentence and the next, each seen with its neighbours, differ."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from app.errors import TooLargeError
from app.pipeline.chunking.base import Embed
from app.pipeline.chunking.boundaries import sentence_cuts, splits_letter, word_cuts
from app.pipeline.chunking.config import ChunkingConfig
from app.pipeline.chunking.likeness import Likeness
from app.pipeline.chunking.measures import Measure, measure_for
from app.pipeline.chunking.packing import CutPlan, Packer
from app.pipeline.chunking.sentences import SentenceChunker
from app.pipeline.chunking.structure import Outline
from app.pipeline.document import Document

MOST_SENTENCES = 20_000  # a thousand pages: what a provider embeds within the time that a job has
_EMBEDDED_AT_ONCE = 64
_BLANKS = re.compile(r"\s*")

Span = tuple[int, int]


class SemanticChunker(SentenceChunker):
    """Ends a chunk where the subject changes, or where it is full, as the strategy sentences does.

    Raises what `embed` raises, and TooLargeError for more than `MOST_SENTENCES`, before any is embedded.
    """

    def __init__(self, config: ChunkingConfig, embed: Embed | None) -> None:
        super().__init__(config)
        if config.semantic is None or embed is None:
            raise ValueError("the strategy semantic needs its options and something that embeds")
        self._options, self._embed = config.semantic, embed

    def _spans(self, document: Document, outline: Outline) -> Iterator[Span]:
        text, plan = document.text, self.plan(document)
        measure = measure_for(self._config.unit, text)
        pages = list(outline.page_spans(len(text)))
        sentences = list(_sentences(text, pages, measure, self._config))
        _refuse_long(len(sentences))
        parts = map(self._embed, self._windows(text, sentences))
        likeness = Likeness.of(parts, self._options.buffer_size)
        for topic in self._topics(sentences, likeness, pages, measure):
            yield from Packer(text, plan, measure, self._config, *topic).spans()

    def _windows(self, text: str, sentences: Sequence[Span]) -> Iterator[list[str]]:
        """Each sentence with those around it, part by part; nothing where there are no two to compare."""
        around, number = self._options.buffer_size, len(sentences)
        for first in range(0, number if number > 1 else 0, _EMBEDDED_AT_ONCE):
            part = range(first, min(first + _EMBEDDED_AT_ONCE, number))
            near = (sentences[max(0, index - around) : index + around + 1] for index in part)
            yield [" ".join(text[start:end] for start, end in window) for window in near]

    def _topics(
        self, sentences: Sequence[Span], likeness: Likeness, pages: Sequence[Span], measure: Measure
    ) -> Iterator[Span]:
        """Stretches of one page and subject, none too small where the page has more."""

        def is_small(first: int, past: int) -> bool:
            size = measure.size(sentences[first][0], sentences[past - 1][1])
            return size < self._config.min_chunk_size

        starts = [start for start, _ in sentences]
        for begin, end in pages:
            first, past = bisect_left(starts, begin), bisect_left(starts, end)
            cuts = likeness.changes(first, past, self._options.similarity_threshold)
            for a, b in likeness.joined((first, *cuts, past), is_small) if first < past else ():
                yield sentences[a][0], sentences[b - 1][1]


def _refuse_long(sentences: int) -> None:
    if sentences > MOST_SENTENCES:
        raise TooLargeError(
            f"the strategy semantic compares at most {MOST_SENTENCES:,} sentences, and this text has "
            f"{sentences:,}: choose another chunking strategy for it"
        )


def _sentences(text: str, pages: Sequence[Span], measure: Measure, config: ChunkingConfig) -> Iterator[Span]:
    """No blanks at the rims. One that fits into no chunk comes in parts that do: all windows are small."""
    words = CutPlan(weak=(word_cuts(text),))
    alone = config.model_copy(update={"chunk_overlap": 0, "min_chunk_size": 0})
    starts = (_blanks_end(text, cut) for cut in sentence_cuts(text))
    cuts = [start for start in starts if not splits_letter(text, start)]
    for begin, end in pages:
        inside = cuts[bisect_right(cuts, begin) : bisect_left(cuts, end)]
        for a, b in pairwise((begin, *inside, end)):
            yield from Packer(text, words, measure, alone, a, b).spans()


def _blanks_end(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position
