"""Reader: a document's text with one passage lit, its pages, outline, passages and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from flask import Blueprint, render_template, request

from app.services.reading import DocumentView, Span
from app.web import frame

if TYPE_CHECKING:
    from app.container import Container

PART_CHARACTERS = 120_000  # a longer document is read in parts, so that the page stays quick


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text as the page shows it; `page` and `chunk_id` are set where one begins."""

    lines: tuple[tuple[str, bool], ...]  # text with its line break, and whether it is a heading
    chunk_id: str | None
    position: int | None
    page: int | None
    is_lit: bool

    @property
    def text(self) -> str:
        """The text as it stands in the document."""
        return "".join(text for text, _ in self.lines)


@dataclass(frozen=True, slots=True)
class Heading:
    """A line of the outline: where a heading path is first seen."""

    text: str
    level: int
    chunk_id: str
    part: int


def add(web: Blueprint, container: Container) -> None:
    """Add the page."""
    services = container.services

    @web.get("/documents/<int:item_id>")
    def document(item_id: int) -> str:
        view = services.reading.document(frame.principal(), item_id)
        wanted = request.args.get("passage", "")
        passage = next((span for span in view.spans if str(span.chunk_id) == wanted), None)
        parts = max(1, -(-len(view.text) // PART_CHARACTERS))
        given = request.args.get("part", type=int)
        part = passage.start // PART_CHARACTERS + 1 if passage and given is None else given or 1
        part = min(max(part, 1), parts)
        return render_template(
            "document.html",
            doc=view,
            pieces=pieces(view, part, passage),
            outline=outline(view.spans),
            passage=passage,
            is_gone=bool(wanted) and passage is None,
            part=part,
            parts=parts,
        )


def pieces(view: DocumentView, part: int, lit: Span | None) -> list[Piece]:
    """The text of one part cut at the starts of passages; every character appears once.

    Passages may overlap: a piece belongs to the passage that starts it, and is lit where the lit one lies.
    """
    first, last = (part - 1) * PART_CHARACTERS, min(part * PART_CHARACTERS, len(view.text))
    starts = {span.start: span for span in view.spans if first <= span.start < last}
    cuts = {first, last, *starts}
    if lit:
        cuts |= {cut for cut in (lit.start, lit.end) if first < cut < last}
    edges = sorted(cuts)
    headings = {_plain(heading) for span in view.spans for heading in span.heading_path}
    page: int | None = None
    found = []
    for begin, end in pairwise(edges):
        span = starts.get(begin)
        turned = span.page if span and span.page != page else None
        page = span.page if span else page
        found.append(
            Piece(
                lines=_lines(view.text[begin:end], headings),
                chunk_id=str(span.chunk_id) if span else None,
                position=span.position if span else None,
                page=turned,
                is_lit=bool(lit and lit.start <= begin < lit.end),
            )
        )
    return found


def _lines(text: str, headings: set[str]) -> tuple[tuple[str, bool], ...]:
    return tuple((line, _plain(line) in headings) for line in text.splitlines(keepends=True))


def _plain(heading: str) -> str:
    """A heading without the marks that some formats write before it."""
    return heading.strip().lstrip("#").strip()


def outline(spans: tuple[Span, ...]) -> list[Heading]:
    """Headings in reading order, from the heading paths of the passages."""
    found: list[Heading] = []
    seen: tuple[str, ...] = ()
    for span in spans:
        path = span.heading_path
        shared = next((i for i, pair in enumerate(zip(seen, path, strict=False)) if pair[0] != pair[1]), None)
        shared = min(len(seen), len(path)) if shared is None else shared
        found += [
            Heading(path[level], level + 1, str(span.chunk_id), span.start // PART_CHARACTERS + 1)
            for level in range(shared, len(path))
        ]
        seen = path
    return found
