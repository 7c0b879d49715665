"""Where a position lies in a document: its headings and its page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from app.pipeline.document import Block, Document


class Outline:
    """Answers for one document, each in logarithmic time."""

    def __init__(self, document: Document) -> None:
        self._pages: list[tuple[int, int | None]] = []
        self._paths: list[tuple[int, tuple[str, ...]]] = []
        open_headings: list[tuple[int, str]] = []
        previous_end = 0
        for block in document.blocks:
            start = block_line_start(document.text, block, previous_end)
            self._pages.append((start, block.page))
            if block.kind == "heading":
                title = " ".join(document.text[block.start : block.end].split())
                open_headings = [*(h for h in open_headings if h[0] < block.level), (block.level, title)]
                self._paths.append((start, tuple(title for _, title in open_headings)))
            previous_end = block.end
        self._page_starts = [start for start, _ in self._pages]
        self._path_starts = [start for start, _ in self._paths]

    def page(self, position: int) -> int | None:
        """The page of the block at or before a position."""
        index = bisect_right(self._page_starts, position) - 1
        return self._pages[max(0, index)][1] if self._pages else None

    def page_spans(self, length: int) -> Iterator[tuple[int, int]]:
        """The stretches of text that lie on one page; all of it where the source has no pages."""
        begin = 0
        for (_, before), (start, page) in pairwise(self._pages):
            if page != before:
                yield begin, start
                begin = start
        yield begin, length

    def heading_path(self, position: int) -> tuple[str, ...]:
        """Headings that a position stands under, outermost first, its own included."""
        index = bisect_right(self._path_starts, position) - 1
        return self._paths[index][1] if index >= 0 else ()


def block_line_start(text: str, block: Block, previous_end: int) -> int:
    """Start of the block's first line: Markdown's marks in front of a title belong to it."""
    return max(previous_end, text.rfind("\n", previous_end, block.start) + 1)
