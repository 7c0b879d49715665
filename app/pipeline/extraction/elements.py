"""Structured pieces of a file, and how they are written down as one text with blocks over it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.pipeline.document import Block, BlockKind
from app.pipeline.extraction.characters import clean
from app.pipeline.extraction.config import Rendering, TableFormat

Row = tuple[str, ...]
# A long table becomes several blocks, each with the header, so that a passage of it says what it lists.
_TABLE_BLOCK_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class Element:
    """A heading, paragraph, list item, table or piece of code, before it is written down."""

    kind: BlockKind
    text: str = ""
    level: int = 0  # of a heading, 1-6; of a list item its depth, from 0
    page: int | None = None
    rows: tuple[Row, ...] = ()  # of a table
    has_header: bool = True  # the first row names the columns


def compose(elements: Iterable[Element], rendering: Rendering) -> tuple[str, tuple[Block, ...]]:
    """Write the elements down; the blocks' spans index the text."""
    page = _Page()
    for element in elements:
        if element.kind == "table":
            for body in _table_bodies(element, rendering):
                page.write(body, rendering.kind("table"), page=element.page)
        elif element.kind == "heading" and rendering.headings:
            marker = "#" * element.level + " " if rendering.heading_format == "markdown" else ""
            title = " ".join(clean(element.text).split())
            page.write(title, "heading", before=marker, level=element.level, page=element.page)
        elif element.kind == "list_item" and rendering.lists:
            page.write(
                clean(element.text), "list_item", before="  " * element.level + "- ", page=element.page
            )
        elif element.kind == "code" and rendering.code and rendering.code_fences:
            page.write(clean(element.text), "code", before="```\n", after="\n```", page=element.page)
        else:
            page.write(clean(element.text), rendering.kind(element.kind), page=element.page)
    return page.text(), tuple(page.blocks)


class _Page:
    """The text so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._last: BlockKind | None = None
        self.blocks: list[Block] = []

    def text(self) -> str:
        return "".join(self._parts)

    def write(
        self,
        text: str,
        kind: BlockKind,
        *,
        before: str = "",
        after: str = "",
        level: int = 0,
        page: int | None = None,
    ) -> None:
        """Add one block; `before` and `after` are markup that the block does not include."""
        text = text.strip("\n").rstrip()
        inner = text.lstrip()
        if not inner:
            return
        if self._parts:
            self._put("\n" if kind == self._last == "list_item" else "\n\n")
        self._put(before)
        start = self._length + len(text) - len(inner)
        self._put(text)
        self.blocks.append(Block(kind, start, self._length, level, page))
        self._put(after)
        self._last = kind

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def _table_bodies(element: Element, rendering: Rendering) -> Iterator[str]:
    rows = [tuple(" ".join(clean(cell).split()) for cell in row) for row in element.rows]
    rows = [row for row in rows if any(row)]
    if not rows:
        return
    table_format: TableFormat = rendering.table_format if rendering.tables else "plain_text"
    header = rows[:1] if element.has_header else []
    for part in _parts_of_table(rows[len(header) :], header):
        yield _write_table(header, part, table_format)


def _parts_of_table(rows: Sequence[Row], header: Sequence[Row]) -> Iterator[list[Row]]:
    """Runs of rows of about one block's size; a wide header allows longer runs."""
    limit = max(_TABLE_BLOCK_CHARACTERS, 4 * sum(len(cell) for row in header for cell in row))
    part: list[Row] = []
    size = 0
    for row in rows:
        length = sum(map(len, row)) + len(row)
        if part and size + length > limit:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part or header:
        yield part


def _write_table(header: Sequence[Row], rows: Sequence[Row], table_format: TableFormat) -> str:
    lines = [*header, *rows]
    if table_format == "csv":
        target = io.StringIO()
        csv.writer(target, lineterminator="\n").writerows(lines)
        return target.getvalue()
    if table_format == "plain_text":
        return "\n".join("\t".join(row).rstrip() for row in lines)
    width = max(map(len, lines))
    cells = [[cell.replace("|", r"\|") for cell in row] + [""] * (width - len(row)) for row in lines]
    if not header:
        cells.insert(0, [""] * width)
    cells.insert(1, ["---"] * width)
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)
