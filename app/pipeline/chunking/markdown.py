"""Sections: cuts at headings, packing small sections together; code and tables stay whole where they fit."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from app.pipeline.chunking.boundaries import line_cuts, paragraph_cuts, sentence_cuts, word_cuts
from app.pipeline.chunking.packing import CutPlan, Cuts, PackingChunker
from app.pipeline.chunking.structure import block_line_start
from app.pipeline.document import Block, Document

_LEVELS = range(1, 7)
_HEADING = re.compile(r"^(?P<marks>#{1,6})[ \t]+(?P<title>\S.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(?P<marks>`{3,}|~{3,})[^`\n]*$", re.MULTILINE)


class MarkdownChunker(PackingChunker):
    """Uses the document's blocks; a text without any is looked through for Markdown's own marks."""

    def plan(self, document: Document) -> CutPlan:
        """Headings, the highest first, then blocks, lines, sentences, words; inside code only if need be."""
        text = document.text
        starts = list(_starts(text, document.blocks))
        headings: dict[int, list[int]] = {level: [] for level in _LEVELS}
        for block, start in starts:
            if block.kind == "heading":
                headings[block.level].append(start)
        if not document.blocks:
            headings = _headings_in_text(text)
        whole = _whole_spans(document)
        lines, words = line_cuts(text), word_cuts(text)
        sentences = _outside(sentence_cuts(text), whole)
        return CutPlan(
            strong=[headings[level] for level in _LEVELS],
            weak=(
                _outside(sorted({*(start for _, start in starts), *paragraph_cuts(text)}), whole),
                _outside(lines, whole),
                sentences,
                _outside(words, whole),
            ),
            inside=(lines, words),
            overlap=(sentences,),
        )


def _starts(text: str, blocks: Sequence[Block]) -> Iterator[tuple[Block, int]]:
    previous_end = 0
    for block in blocks:
        yield block, block_line_start(text, block, previous_end)
        previous_end = block.end


def _headings_in_text(text: str) -> dict[int, list[int]]:
    fences = _fenced(text)
    found: dict[int, list[int]] = {level: [] for level in _LEVELS}
    for match in _HEADING.finditer(text):
        if _outside([match.start()], fences):
            found[len(match["marks"])].append(match.start())
    return found


def _whole_spans(document: Document) -> list[tuple[int, int]]:
    """Code and tables, in order."""
    if not document.blocks:
        return _fenced(document.text)
    return [(block.start, block.end) for block in document.blocks if block.kind in ("code", "table")]


def _fenced(text: str) -> list[tuple[int, int]]:
    """Spans between opening and closing fences."""
    spans: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match["marks"].startswith(opened["marks"]):
            spans.append((opened.start(), match.end()))
            opened = None
    return spans


def _outside(cuts: Cuts, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Cuts that lie in the inside of no span."""
    firsts = [start for start, _ in spans]
    kept = []
    for cut in cuts:
        index = bisect_right(firsts, cut) - 1
        if index < 0 or cut >= spans[index][1] or cut <= spans[index][0]:
            kept.append(cut)
    return kept
