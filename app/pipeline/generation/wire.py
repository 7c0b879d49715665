"""The text of a streamed answer: events of a body that comes in any pieces, and thoughts left out of it."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from app.errors import ProviderUnavailableError

_OPEN, _CLOSE = "<think>", "</think>"
_LONGEST_LINE = 1024 * 1024  # characters; putting together what has no end would take ever longer


def event_data(body: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event (WHATWG HTML, 9.2), wherever the network cut it.

    A character that was cut is put together again; an event that the end of the body cut is left out. Raises
    ProviderUnavailableError for a line of more than a million characters.
    """
    data: list[str] = []
    for line in _lines(body):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))


def _lines(body: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in body:
        rest += decoder.decode(chunk)
        *lines, rest = rest.split("\n")
        if len(rest) > _LONGEST_LINE:
            raise ProviderUnavailableError("A streamed answer has a line without end.")
        yield from (line.removesuffix("\r") for line in lines)


class Thoughts:
    """Leaves out what a model wrote between <think> marks, also where a mark comes in two pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._inside = False

    def said(self, piece: str) -> str:
        """What of the text so far may be shown now and was not before."""
        self._held += piece
        shown = ""
        while True:
            mark = _CLOSE if self._inside else _OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            shown += "" if self._inside else before
            self._held, self._inside = after, not self._inside
        keep = _overlap(self._held, mark)
        ready, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown if self._inside else shown + ready

    def rest(self) -> str:
        """What was held back in case a mark was beginning."""
        return "" if self._inside else self._held


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of `text` may be the beginning of `mark`."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)
