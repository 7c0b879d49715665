"""A traceback with what is ours in sight and the frames of libraries folded away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.jobs.letter_facts import is_ours

_FRAME = re.compile(r'(?P<indent>[ |+]*)File "[^"]*", line \d+')


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that belong together: `library_frames` of them are folded, none where they are shown."""

    text: str
    library_frames: int = 0


def parts_of(trace: str) -> tuple[Part, ...]:
    """The parts of a traceback in its order; all of it is shown where no frame is ours."""
    pieces = list(_pieces(trace.splitlines()))
    if not any(ours for _, ours in pieces):
        return (Part(trace),) if trace.strip() else ()
    parts: list[Part] = []
    for text, ours in pieces:
        frames = 1 if ours is False else 0
        if parts and bool(parts[-1].library_frames) == bool(frames):
            before = parts.pop()
            parts.append(Part(f"{before.text}\n{text}", before.library_frames + frames))
        else:
            parts.append(Part(text, frames))
    return tuple(parts)


def _pieces(lines: list[str]) -> Iterator[tuple[str, bool | None]]:
    """Frames with their source, and whether they are ours; None for the lines between them."""
    at = 0
    while at < len(lines):
        frame = _FRAME.match(lines[at])
        end = at + 1
        while frame and end < len(lines) and _belongs(lines[end], len(frame["indent"])):
            end += 1
        yield "\n".join(lines[at:end]), is_ours(lines[at]) if frame else None
        at = end


def _belongs(line: str, indent: int) -> bool:
    """Whether a line is what a frame at this indent shows of its source, or says of its repetition."""
    if _FRAME.match(line):
        return False
    inside = line.lstrip(" |+")
    deeper = len(line) - len(inside) > indent
    return bool(inside) and (deeper or inside.startswith("[Previous line repeated"))
