"""Tables, cut between rows; the text around them like the strategy recursive."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from app.pipeline.chunking.boundaries import word_cuts
from app.pipeline.chunking.mixed import Cutting, MixedChunker, Stretch
from app.pipeline.chunking.packing import CutPlan, Packer, Passage
from app.pipeline.document import Document

_RULE = frozenset("|:- \t")  # what Markdown draws between header and rows
_PIPED = re.compile(r"^[ \t]*\|[^\n]*$", re.MULTILINE)
_HEADER_CHARACTERS = 300
_LINE_CHARACTERS = 10_000

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Table:
    """One table as extraction wrote it down: a long one comes in several, each with the header."""

    start: int
    end: int
    header: str
    rows: Sequence[Span] = field(default=())  # without the header


class TableChunker(MixedChunker):
    """Rows stay whole where they fit, and a chunk of rows stands under the table's header."""

    def stretches(self, cutting: Cutting) -> Iterator[Stretch]:
        """One for each table that has enough rows."""
        document = cutting.document
        plan = CutPlan(weak=(word_cuts(document.text),))
        for _, group in groupby(_tables(document), key=_Joined(document.text)):
            tables = list(group)
            if sum(len(table.rows) for table in tables) >= (self._config.min_rows_for_table or 0):
                for table in tables:
                    yield table.start, table.end, self._cut(cutting, plan, table)

    def _cut(self, cutting: Cutting, plan: CutPlan, table: _Table) -> Iterator[Passage]:
        """The first chunk has the header in its text; the others have it in their path."""
        names = (table.header,) if self._config.include_headers and table.header else ()
        for start, end in self._runs(cutting, table):
            below = names if start > table.start else ()
            if cutting.fits(start, end):
                yield start, end, below
            else:
                packer = Packer(cutting.document.text, plan, cutting.measure, self._config, start, end)
                for begin, stop in packer.spans():
                    yield begin, stop, names if begin > table.start else ()

    def _runs(self, cutting: Cutting, table: _Table) -> list[Span]:
        """Rows that make a chunk together; the last ones take some of their neighbours if they are few."""
        if not table.rows:
            return [(table.start, table.end)]
        counts = self._counts(cutting, table)
        self._balance(cutting, table, counts)
        runs, first = [], 0
        for count in counts:
            start = table.rows[first][0] if first else table.start
            runs.append((start, table.rows[first + count - 1][1]))
            first += count
        return runs

    def _counts(self, cutting: Cutting, table: _Table) -> list[int]:
        counts, begin = [0], table.start
        for start, end in table.rows:
            full = counts[-1] >= (self._config.max_rows_per_chunk or 1)
            if counts[-1] and (full or not cutting.fits(begin, end)):
                counts.append(0)
                begin = start
            counts[-1] += 1
        return counts

    def _balance(self, cutting: Cutting, table: _Table, counts: list[int]) -> None:
        while len(counts) > 1 and counts[-2] > counts[-1] + 1:
            first = len(table.rows) - counts[-1]
            if cutting.measure.size(table.rows[first][0], table.end) >= self._config.min_chunk_size:
                return
            if not cutting.fits(table.rows[first - 1][0], table.end):
                return
            counts[-2:] = [counts[-2] - 1, counts[-1] + 1]


class _Joined:
    """A number that tables share which follow each other under the same header: they are one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._last: _Table | None = None
        self._number = 0

    def __call__(self, table: _Table) -> int:
        last, self._last = self._last, table
        if last and (last.header != table.header or self._text[last.end : table.start].strip()):
            self._number += 1
        return self._number


def _tables(document: Document) -> Iterator[_Table]:
    text = document.text
    blocks = [(block.start, block.end) for block in document.blocks if block.kind == "table"]
    for start, end in blocks or _piped(text):
        lines = list(_lines(text, start, end))
        if lines:
            yield _table(text, lines)


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Those that hold something."""
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if text[start:stop].strip():
            yield start, start + len(text[start:stop].rstrip())
        start = stop + 1


def _table(text: str, lines: Sequence[Span]) -> _Table:
    head = 2 if len(lines) > 1 and _is_rule(text[slice(*lines[1])]) else 1
    header = _header(text[slice(*lines[0])])
    return _Table(lines[0][0], lines[-1][1], header, lines[head:])


def _is_rule(line: str) -> bool:
    return _RULE.issuperset(line) and "-" in line and ("|" in line or "---" in line)


def _header(line: str) -> str:
    """The header's row as people read it, however the table is written."""
    cells = (" ".join(cell.split()) for cell in _cells(line[:_LINE_CHARACTERS]))
    return " | ".join(cell for cell in cells if cell)[:_HEADER_CHARACTERS]


def _cells(line: str) -> list[str]:
    if line.lstrip().startswith("|"):
        return [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
    return line.split("\t") if "\t" in line else next(csv.reader([line]))


def _piped(text: str) -> Iterator[Span]:
    """Tables of Markdown in a text without blocks for tables: lines with pipes, the second a rule."""
    run: list[Span] = []
    for match in _PIPED.finditer(text):
        if run and match.start() != run[-1][1] + 1:
            yield from _as_table(text, run)
            run = []
        run.append(match.span())
    yield from _as_table(text, run)


def _as_table(text: str, run: Sequence[Span]) -> Iterator[Span]:
    if len(run) > 1 and _is_rule(text[slice(*run[1])]):
        yield run[0][0], run[-1][1]
