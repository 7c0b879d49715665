"""Words of a query: which of them say something, and where a text has them.

A query word lights every word that begins like it, so that "connect" lights "connections"; words that say
nothing by themselves light nothing.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+", re.UNICODE)
_COMPOUND = re.compile(r"\w+(?:[-./_@+]\w+)+", re.UNICODE)  # whole, as a part alone may be read otherwise
_SHORTEST = 3
_STEM = 5
_MOST_SOUGHT = 12
_SILENT = frozenset(
    word
    for line in (
        "the and for with that this from are was were what which who how why when where does did can not",
        "you",
        "your our their its his her them they will would should could have has had been being into about",
        "over",
        "than then there these those any all per via use using",
    )
    for word in line.split()
)


def query_words(query: str) -> tuple[str, ...]:
    """The words of a query worth lighting, folded, in order, once each."""
    words = (word.casefold() for word in _WORD.findall(query))
    return tuple(dict.fromkeys(word for word in words if len(word) >= _SHORTEST and word not in _SILENT))


def sought_words(query: str) -> tuple[str, ...]:
    """What to look up in the index of words: compounds like XK-77, words worth lighting, ones with a digit.

    All words where there is none of that, at most 12; none holds a quotation mark or a blank.
    """
    words = tuple(dict.fromkeys(word.casefold() for word in _WORD.findall(query)))
    telling = set(query_words(query))
    kept = [word for word in words if word in telling or any(char.isdigit() for char in word)]
    compounds = [found.casefold() for found in _COMPOUND.findall(query)]
    return tuple(dict.fromkeys([*compounds, *(kept or words)]))[:_MOST_SOUGHT]


def lit_spans(text: str, words: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where words of `text` begin like one of `words`; spans in order, not overlapping."""
    stems = tuple(word[: max(_STEM, len(word) - 3)] for word in words)
    return [
        match.span()
        for match in _WORD.finditer(text)
        if len(match.group()) >= _SHORTEST and match.group().casefold().startswith(stems)
    ] if stems else []  # fmt: skip
