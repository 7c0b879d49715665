"""Source code, cut along its syntax: what is defined stays whole where it fits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.pipeline.chunking.boundaries import line_cuts, word_cuts
from app.pipeline.chunking.languages import guess
from app.pipeline.chunking.mixed import Cutting, MixedChunker, Stretch
from app.pipeline.chunking.packing import CutPlan, Passage
from app.pipeline.chunking.syntax_packing import Landmarks, SyntaxPacker
from app.pipeline.document import Document, Part
from app.pipeline.sandbox import ChildCrashedError, ChildMemoryError, ChildTimeoutError, run_in_child

_PARSER = "app.pipeline.chunking.syntax:outline"
_SECONDS = 20.0
_MEMORY_BYTES = 1024 * 1024 * 1024
_MOST_CHARACTERS = 5_000_000  # what is larger was written by a program

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's text within a document, from the end of the file before it."""

    begin: int
    part: Part
    language: str


class CodeChunker(MixedChunker):
    """Cuts the files whose language is known; the rest, and what no parser gets through, like recursive."""

    def stretches(self, cutting: Cutting) -> Iterator[Stretch]:
        """One for each file."""
        lines, words = line_cuts(cutting.document.text), word_cuts(cutting.document.text)
        plan = CutPlan(weak=(lines, words), overlap=(lines,))
        for source in self._sources(cutting.document):
            found = self._outline(cutting.document, source)
            if found is not None:
                passages = self._cut(cutting, plan, source, found)
                yield source.begin, source.part.end, passages

    def _sources(self, document: Document) -> Iterator[_Source]:
        whole = Part("", document.media_type, 0, len(document.text))
        begin = 0
        for part in document.parts or (whole,):
            language = self._config.language or guess(part, document.text[part.start : part.end])
            if language is not None and part.end - part.start <= _MOST_CHARACTERS:
                yield _Source(begin, part, language)
            begin = part.end

    def _outline(self, document: Document, source: _Source) -> dict[str, Any] | None:
        part = source.part
        try:
            found: dict[str, Any] = run_in_child(
                _PARSER,
                document.text[part.start : part.end],
                source.language,
                self._config.chunk_size,
                timeout_seconds=_SECONDS,
                memory_bytes=_MEMORY_BYTES,
            )
        except (ChildTimeoutError, ChildMemoryError, ChildCrashedError) as error:
            _log.warning("A file is cut as text: no %s parser gets through it (%s)", source.language, error)
            return None
        return found

    def _cut(
        self, cutting: Cutting, plan: CutPlan, source: _Source, found: dict[str, Any]
    ) -> Iterator[Passage]:
        part, text = source.part, cutting.document.text
        marks = Landmarks(text, found, part.start, part.end)
        for begin, end in self._kept(text, source, found):
            packer = SyntaxPacker(text, plan, cutting.measure, self._config, begin, end, marks)
            for start, stop in packer.spans():
                yield start, stop, marks.names(start, stop)

    def _kept(self, text: str, source: _Source, found: dict[str, Any]) -> list[tuple[int, int]]:
        """What is not left out; all of it where nothing else would be left."""
        unwanted = [
            *([] if self._config.include_imports else found["imports"]),
            *([] if self._config.preserve_comments else found["comments"]),
        ]
        offset = source.part.start
        gaps = sorted((start + offset, end + offset) for start, end in unwanted)
        kept = [
            (begin, end)
            for begin, end in _between(gaps, source.begin, source.part.end)
            if text[begin:end].strip()
        ]
        return kept if any(end > offset for _, end in kept) else [(source.begin, source.part.end)]


def _between(gaps: Sequence[tuple[int, int]], begin: int, end: int) -> Iterable[tuple[int, int]]:
    for start, stop in gaps:
        yield begin, start
        begin = stop
    yield begin, end
