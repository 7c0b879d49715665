"""PDF by pdfium, in a killable child process: text with page numbers, headings from the outline."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.elements import Element
from app.pipeline.sandbox import ChildCrashedError, ChildMemoryError, ChildTimeoutError, run_in_child

_READER = "app.pipeline.extraction.pdf_pages:read_pages"
_LINE_END_HYPHEN = re.compile("[\x02\ufffe]\n?")  # pdfium's mark for a hyphen that only breaks a line
_NUMBER = re.compile(r"\d+")
_RUNNING_SHARE = 0.6  # of the pages that a running head or foot stands on
_RUNNING_PAGES = 4  # fewer pages say nothing about repetition
_EDGE_LINES = 2
_SENTENCE_END = (".", "!", "?", ":", "。", "\uff01", "\uff1f", "؟", "।")
_SHORT_LINE = 0.75  # a line this much shorter than the page's widest ends a paragraph, if a sentence ends it


class PdfExtractor:
    """Reads the text layer; there is no OCR."""

    def __init__(self, context: ExtractionContext) -> None:
        self._limits = context.limits
        self._rendering = context.config.rendering()

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError: encrypted, damaged, without pages, without text, over a limit."""
        content = self._read(source)
        pages = without_running_lines([_plain(page) for page in content["pages"]])
        empty = [number for number, page in enumerate(pages, start=1) if not page.strip()]
        if len(empty) == len(pages):
            raise UnreadableFileError(
                f"{source.name} holds no text on any of its {len(pages)} pages: it seems to be scanned. "
                "Text recognition (OCR) is not available; upload a version with a text layer.",
                field="file",
            )
        return from_elements(
            page_elements(pages, content["outline"]),
            self._rendering,
            media_type=source.media_type,
            title=content["metadata"].get("Title"),
            page_count=len(pages),
            metadata={_key(key): value for key, value in content["metadata"].items()},
            warnings=[_empty_pages_warning(empty, len(pages))] if empty else [],
        )

    def _read(self, source: SourceFile) -> dict[str, Any]:
        try:
            content: dict[str, Any] = run_in_child(
                _READER,
                str(source.path),
                self._limits.text_characters,
                timeout_seconds=self._limits.timeout_seconds,
                memory_bytes=self._limits.memory_bytes,
            )
        except ChildTimeoutError as error:
            raise UnreadableFileError(
                f"{source.name} could not be read within {self._limits.timeout_seconds:g} seconds",
                field="file",
            ) from error
        except ChildMemoryError as error:
            raise UnreadableFileError(
                f"{source.name} needs more than {self._limits.memory_bytes // 2**20} MiB of memory to read",
                field="file",
            ) from error
        except ChildCrashedError as error:
            raise UnreadableFileError(
                f"{source.name} is damaged: the PDF reader stopped working on it ({error.message})",
                field="file",
            ) from error
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{source.name} {error.message}", field="file") from error
        return content


def _plain(page: str) -> str:
    return _LINE_END_HYPHEN.sub("", page.replace("\r\n", "\n").replace("\r", "\n"))


def _key(pdf_key: str) -> str:
    """Snake case: "CreationDate" becomes "creation_date"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", pdf_key).lower()


def _empty_pages_warning(empty: Sequence[int], total: int) -> str:
    shown = ", ".join(map(str, empty[:10])) + (", …" if len(empty) > 10 else "")  # noqa: PLR2004 - readability
    verb = "holds" if len(empty) == 1 else "hold"
    return f"{len(empty)} of {total} pages {verb} no text (page {shown}); scanned pages are not recognised"


def without_running_lines(pages: Sequence[str]) -> list[str]:
    """Drop heads and feet: edge lines that, digits aside, stand on most pages."""
    split = [page.strip().split("\n") for page in pages]
    if len(split) < _RUNNING_PAGES:
        return list(pages)
    counts = Counter(shape for lines in split for shape in {_shape(line) for line in _edges(lines)})
    filled = sum(1 for lines in split if any(lines))
    running = {shape for shape, count in counts.items() if shape and count >= _RUNNING_SHARE * filled}
    return ["\n".join(_inner(lines, running)) for lines in split]


def _edges(lines: Sequence[str]) -> list[str]:
    """Lines at the rim of a page; a page of few lines has no rim."""
    if len(lines) <= 2 * _EDGE_LINES:
        return []
    return [*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]


def _inner(lines: list[str], running: set[str]) -> list[str]:
    first, last = 0, len(lines)
    if last <= 2 * _EDGE_LINES:
        return lines
    while first < _EDGE_LINES and _shape(lines[first]) in running:
        first += 1
    while last > len(lines) - _EDGE_LINES and _shape(lines[last - 1]) in running:
        last -= 1
    return lines[first:last]


def _shape(line: str) -> str:
    return _NUMBER.sub("#", " ".join(line.split()))


def page_elements(pages: Sequence[str], outline: Sequence[Sequence[Any]]) -> Iterator[Element]:
    """Paragraphs and headings of all pages.

    `outline` holds (level, title, page number): a bookmark whose title is a line of its page makes that
    line a heading.
    """
    bookmarks: dict[int, dict[str, int]] = {}
    for level, title, number in outline:
        bookmarks.setdefault(number, {})[_shape(title)] = min(6, level)
    for number, page in enumerate(pages, start=1):
        titles = bookmarks.get(number, {})
        for paragraph in _paragraphs(page, titles):
            level = titles.get(_shape(paragraph))
            if level:
                yield Element("heading", paragraph, level=level, page=number)
            else:
                yield Element("paragraph", paragraph, page=number)


def _paragraphs(page: str, titles: dict[str, int]) -> Iterator[str]:
    """Lines joined to paragraphs: a short line that ends a sentence ends a paragraph, as does a title."""
    lines = page.split("\n")
    widest = max(map(len, lines), default=0)
    current: list[str] = []
    for line in lines:
        is_title = _shape(line) in titles
        if current and (is_title or not line.strip()):
            yield "\n".join(current)
            current = []
        if is_title:
            yield line
            continue
        if line.strip():
            current.append(line.rstrip())
        if current and line.rstrip().endswith(_SENTENCE_END) and len(line) < _SHORT_LINE * widest:
            yield "\n".join(current)
            current = []
    if current:
        yield "\n".join(current)
