"""Comma and tab separated values: one table."""

from __future__ import annotations

import csv
import io

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element

_DELIMITERS = ",;\t|"
_SAMPLE_CHARACTERS = 16 * 1024
_FIELD_CHARACTERS = 10_000_000


class SeparatedValuesExtractor:
    """Reads rows; the first one is repeated as header in every block of a long table."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError naming the line that breaks the format."""
        text = clean(decode(source.path.read_bytes()))
        tabs = source.media_type == "text/tab-separated-values"
        csv.field_size_limit(_FIELD_CHARACTERS)
        reader = csv.reader(io.StringIO(text), delimiter="\t" if tabs else _delimiter(text))
        try:
            rows = tuple(tuple(row) for row in reader)
        except csv.Error as error:
            raise UnreadableFileError(
                f"Line {reader.line_num} breaks the table: {error}", field="file"
            ) from error
        return from_elements(
            [Element("table", rows=rows)],
            self._rendering,
            media_type=source.media_type,
            metadata={"rows": str(max(0, len(rows) - 1)), "columns": ", ".join(rows[0]) if rows else ""},
        )


def _delimiter(text: str) -> str:
    """The delimiter that cuts the first lines into the same number (> 1) of cells most often."""
    lines = text[:_SAMPLE_CHARACTERS].splitlines()[:20]

    def agreement(delimiter: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        first = widths[0] if widths else 1
        return (sum(width == first for width in widths) if first > 1 else 0, first)

    return max(_DELIMITERS, key=agreement)
