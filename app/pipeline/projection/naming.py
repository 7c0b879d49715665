"""Better topic names from a language model, where somebody gives one; keywords remain the fallback."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from app.errors import PermanentError, TransientError
from app.pipeline.projection.base import Projection, Topic
from app.pipeline.projection.vectors import read_texts

SAMPLE_CHARACTERS = 600
LONGEST_NAME = 80

# A provider that fails so often in a row is not asked for the rest.
_FAILURES_BEFORE_GIVING_UP = 3

OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class NamingRequest:
    """What a namer knows of one topic: keywords, its central passages (cut), and names already given."""

    keywords: tuple[str, ...]
    samples: tuple[str, ...]
    taken: tuple[str, ...]


class Namer(Protocol):
    """Names one topic in two to five words. May raise the provider errors of app.errors."""

    def __call__(self, request: NamingRequest, /) -> str:
        """The name, without quotation marks."""
        ...


def rename_topics(
    projection: Projection, texts_path: Path, namer: Namer, on_progress: OnProgress | None = None
) -> Projection:
    """The same map with names from `namer`, asked for the largest topic first.

    A topic keeps its keyword name where the namer raises a provider error or answers nothing usable; after
    three errors in a row the rest is not asked. `notes` says how many kept theirs and why. Names stay unique.
    """
    samples = _samples(projection.topics, texts_path)
    naming = _Naming(namer, {topic.name for topic in projection.topics})
    named = []
    for done, topic in enumerate(projection.topics, start=1):
        named.append(naming.name(topic, tuple(samples[row] for row in topic.exemplar_rows)))
        if on_progress is not None:
            on_progress(done / len(projection.topics))
    return replace(projection, topics=tuple(named), notes=(*projection.notes, *naming.notes(len(named))))


class _Naming:
    """Names given so far, and how the provider behaves."""

    def __init__(self, namer: Namer, taken: Iterable[str]) -> None:
        self._namer = namer
        self._taken = set(taken)
        self._given: list[str] = []
        self._in_a_row = 0
        self._last_error = ""

    def name(self, topic: Topic, samples: tuple[str, ...]) -> Topic:
        if self._in_a_row >= _FAILURES_BEFORE_GIVING_UP:
            return topic
        try:
            answer = self._namer(NamingRequest(topic.keywords, samples, tuple(self._given)))
        except (PermanentError, TransientError) as error:
            self._in_a_row += 1
            self._last_error = error.message
            return topic
        self._in_a_row = 0
        name = _one_line(answer)
        if not name:
            self._last_error = "the answer held no name"
            return topic
        name = self._unique(name, topic)
        self._given.append(name)
        return replace(topic, name=name, name_source="language_model")

    def notes(self, topics: int) -> tuple[str, ...]:
        kept = topics - len(self._given)
        if not kept:
            return ()
        return (f"{kept} of {topics} topics kept their keyword names: {self._last_error.rstrip('.')}.",)

    def _unique(self, name: str, topic: Topic) -> str:
        if name in self._taken and topic.keywords:
            name = f"{name} ({topic.keywords[0]})"
        number, plain = 2, name
        while name in self._taken:
            name, number = f"{plain} {number}", number + 1
        self._taken.add(name)
        return name


def _one_line(answer: str) -> str:
    """The first line that holds something, without quotation marks and closing full stop, cut to 80."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return lines[0].strip("\"'`*#\u201c\u201d\u201e ").rstrip(".")[:LONGEST_NAME].strip() if lines else ""


def _samples(topics: Iterable[Topic], texts_path: Path) -> dict[int, str]:
    wanted = {row for topic in topics for row in topic.exemplar_rows}
    return {row: text[:SAMPLE_CHARACTERS] for row, text in enumerate(read_texts(texts_path)) if row in wanted}
