"""Whole sentences, as many as fit; a longer sentence is cut between words."""

from __future__ import annotations

from app.pipeline.chunking.boundaries import sentence_cuts, word_cuts
from app.pipeline.chunking.packing import CutPlan, PackingChunker
from app.pipeline.document import Document


class SentenceChunker(PackingChunker):
    """Ends a chunk in the middle of a sentence only when the sentence itself does not fit."""

    def plan(self, document: Document) -> CutPlan:
        """Sentences, then words; only whole sentences are repeated."""
        sentences = sentence_cuts(document.text)
        return CutPlan(strong=(sentences,), weak=(), inside=(word_cuts(document.text),), overlap=(sentences,))
