"""Windows of a number of tokens, cut between words."""

from __future__ import annotations

from app.pipeline.chunking.boundaries import word_cuts
from app.pipeline.chunking.packing import CutPlan, PackingChunker
from app.pipeline.document import Document


class TokenChunker(PackingChunker):
    """Fills every chunk as far as whole words allow."""

    def plan(self, document: Document) -> CutPlan:
        """Words only."""
        words = word_cuts(document.text)
        return CutPlan(weak=(words,), overlap=(words,))
