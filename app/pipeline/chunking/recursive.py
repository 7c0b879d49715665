"""Cuts at the largest unit that fits: paragraphs, lines, sentences, words; or at given separators."""

from __future__ import annotations

from app.pipeline.chunking.boundaries import (
    line_cuts,
    paragraph_cuts,
    sentence_cuts,
    separator_cuts,
    word_cuts,
)
from app.pipeline.chunking.packing import CutPlan, PackingChunker
from app.pipeline.document import Document


class RecursiveChunker(PackingChunker):
    """The strategy for any text."""

    def plan(self, document: Document) -> CutPlan:
        """Best separator first."""
        text = document.text
        if self._config.separators is not None:
            given = [separator_cuts(text, separator) for separator in self._config.separators if separator]
            everywhere = range(len(text) + 1)
            if not given:
                return CutPlan(weak=(everywhere,), overlap=(everywhere,))
            return CutPlan(weak=given, inside=(everywhere,), overlap=(*given, everywhere))
        sentences, words = sentence_cuts(text), word_cuts(text)
        return CutPlan(
            weak=(paragraph_cuts(text), line_cuts(text), sentences, words), overlap=(sentences, words)
        )
