"""Plain text, logs, source code and settings files: the text as it is, blocks at blank lines."""

from __future__ import annotations

from app.pipeline.document import BlockKind, Document
from app.pipeline.extraction.assemble import paragraphs
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext


class PlainTextExtractor:
    """Reads prose."""

    kind: BlockKind = "paragraph"

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Decode and clean; indentation and blank lines stay."""
        text = clean(decode(source.path.read_bytes())).rstrip()
        blocks = tuple(paragraphs(text, kind=self._rendering.kind(self.kind)))
        return Document(text=text, blocks=blocks, media_type=source.media_type)


class SourceCodeExtractor(PlainTextExtractor):
    """Reads code: the same text, in blocks that count as code."""

    kind: BlockKind = "code"
