"""Which words of a passage are lit for a query, and which part of a long passage is shown."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from app.services.words import lit_spans, query_words

_MARKS = re.compile(r"^[ \t]*(#{1,6}[ \t]+|[-=*_~^]{4,}[ \t]*$)", re.MULTILINE)


def lit(text: str, query: str, *, most: int = 0) -> Markup:
    """`text` as safe HTML with the query's words in <mark>; the best `most` characters where given."""
    text = _readable(text) if most else text
    spans = lit_spans(text, query_words(query))
    start, end = _best_window(text, spans, most) if most and len(text) > most else (0, len(text))
    parts: list[Markup | str] = ["… " if start else ""]
    position = start
    for first, last in spans:
        if first < start or last > end:
            continue
        parts += [escape(text[position:first]), Markup("<mark>{}</mark>").format(text[first:last])]
        position = last
    parts += [escape(text[position:end]), " …" if end < len(text) else ""]
    return Markup("").join(parts)


def shortened(text: str, most: int) -> str:
    """The first `most` characters of `text`, cut at white space."""
    text = _readable(text)
    start, end = _best_window(text, [], most) if len(text) > most else (0, len(text))
    return text[start:end] + (" …" if end < len(text) else "")


def _readable(text: str) -> str:
    """One line without the marks of headings and rules: an extract, not the passage itself."""
    return " ".join(_MARKS.sub(" ", text).split())


def _best_window(text: str, spans: list[tuple[int, int]], most: int) -> tuple[int, int]:
    """The window of `most` characters that holds the most lit words, cut at white space."""
    starts = [0, *(max(0, first - most // 4) for first, _ in spans)]
    best = max(starts, key=lambda at: sum(at <= first and last <= at + most for first, last in spans))
    best = min(best, max(0, len(text) - most))
    if best:
        blank = text.find(" ", best, best + 40)
        best = blank + 1 if blank != -1 else best
    end = min(len(text), best + most)
    if end < len(text):
        blank = text.rfind(" ", end - 40, end)
        end = blank if blank != -1 else end
    return best, end
