"""JSON, JSON lines and notebooks: values as "path: value" lines, one paragraph per record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.characters import clean, decode
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element


class JsonExtractor:
    """Reads one value; each entry of a list at the top is a paragraph of its own."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError naming line and column of the first mistake."""
        value = _parse(clean(decode(source.path.read_bytes())), "The file")
        records = value if isinstance(value, list) else [value]
        return from_elements(
            [Element("paragraph", record_text(record)) for record in records],
            self._rendering,
            media_type=source.media_type,
            metadata={"records": str(len(records))} if isinstance(value, list) else {},
        )


class JsonLinesExtractor:
    """Reads one value per line."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Lines that are no JSON are skipped and counted; no good line at all is an error."""
        lines = [line for line in clean(decode(source.path.read_bytes())).split("\n") if line.strip()]
        texts, bad = [], 0
        for line in lines:
            try:
                texts.append(record_text(_parse(line, "A line")))
            except UnreadableFileError:
                bad += 1
        if not texts:
            raise UnreadableFileError("No line of the file is valid JSON", field="file")
        return from_elements(
            [Element("paragraph", text) for text in texts],
            self._rendering,
            media_type=source.media_type,
            metadata={"records": str(len(texts))},
            warnings=[f"{bad} of {len(lines)} lines are not valid JSON and were skipped"] if bad else [],
        )


class NotebookExtractor:
    """Reads Jupyter notebooks: Markdown cells as text, code cells as code; outputs are left out."""

    def __init__(self, context: ExtractionContext) -> None:
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError for JSON without cells."""
        notebook = _parse(clean(decode(source.path.read_bytes())), "The notebook")
        cells = notebook.get("cells") if isinstance(notebook, Mapping) else None
        if not isinstance(cells, list):
            raise UnreadableFileError("The notebook has no list of cells", field="file")
        return from_elements(
            [element for cell in cells if isinstance(cell, Mapping) for element in _cell(cell)],
            self._rendering,
            media_type=source.media_type,
        )


def _cell(cell: Mapping[str, Any]) -> Iterator[Element]:
    raw = cell.get("source", "")
    text = "".join(map(str, raw)) if isinstance(raw, list) else str(raw)
    if cell.get("cell_type") == "code":
        yield Element("code", text)
    elif cell.get("cell_type") == "markdown":
        from app.pipeline.extraction.markdown import markdown_blocks

        for block in markdown_blocks(text):
            yield Element(block.kind, text[block.start : block.end].lstrip("-*+ "), level=block.level)
    else:
        yield Element("paragraph", text)


def _parse(text: str, subject: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableFileError(
            f"{subject} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}",
            field="file",
        ) from error
    except (RecursionError, ValueError) as error:
        raise UnreadableFileError(f"{subject} is nested too deeply or holds an impossible number") from error


def record_text(value: Any) -> str:
    """Leaves of a JSON value as lines "path.to.leaf: value", without recursion."""
    lines = []
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        path, node = pending.pop()
        if isinstance(node, Mapping):
            pending += [
                (f"{path}.{key}" if path else str(key), child) for key, child in reversed(list(node.items()))
            ]
        elif isinstance(node, list):
            pending += [(path, child) for child in reversed(node)]
        elif node is not None and node != "":
            text = node if isinstance(node, str) else json.dumps(node)
            lines.append(f"{path}: {text}" if path else text)
    return "\n".join(lines)
