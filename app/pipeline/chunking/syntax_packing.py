"""Fills chunks with whole pieces of syntax: the shallowest place to cut is the best."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any

from app.pipeline.chunking.config import ChunkingConfig
from app.pipeline.chunking.measures import Measure
from app.pipeline.chunking.packing import CutPlan, Packer

_AFTER = " \t\r\n;,)}]"  # what may follow a definition within its chunk
_MOST_AFTER = 8


class Landmarks:
    """Where pieces of a file begin, how deep they lie, and what they are called; for one way through it."""

    def __init__(self, text: str, found: dict[str, Any], start: int, end: int) -> None:
        self._text = text
        self.positions: list[int] = [position + start for position, _ in found["cuts"]]
        self.depths: list[int] = [depth for _, depth in found["cuts"]]
        self.ends = self._ends(end)
        self._names = [(low + start, high + start, tuple(words)) for low, high, words in found["names"]]
        self._names.sort(key=lambda each: (each[0], -each[1]), reverse=True)
        self._turns, self._closings = self._closing()
        self._open: list[tuple[int, int, tuple[str, ...]]] = []
        self.whole = {low for low, _, _ in self._names}
        self.whole.update(at for at, depth in zip(self.positions, self.depths, strict=True) if not depth)

    def _ends(self, end: int) -> list[int]:
        """For each piece, where the next one begins that lies no deeper."""
        ends = [end] * len(self.positions)
        waiting: list[int] = []
        for index, depth in enumerate(self.depths):
            while waiting and self.depths[waiting[-1]] >= depth:
                ends[waiting.pop()] = self.positions[index]
            waiting.append(index)
        return ends

    def _closing(self) -> tuple[list[int], list[int]]:
        """From which position on which definition is the innermost: its end, or 0 for none."""
        turns: list[tuple[int, int]] = []
        around: list[int] = []
        for low, high, _ in reversed(self._names):
            while around and around[-1] <= low:
                closed = around.pop()
                turns.append((closed, around[-1] if around else 0))
            turns.append((low, high))
            around.append(high)
        while around:
            closed = around.pop()
            turns.append((closed, around[-1] if around else 0))
        return [at for at, _ in turns], [end for _, end in turns]

    def way_out(self, start: int) -> int | None:
        """Where the next piece begins after the definition that a position is in the inside of."""
        turn = bisect_left(self._turns, start) - 1
        end = self._closings[turn] if turn >= 0 else 0
        following = bisect_left(self.positions, end)
        return self.positions[following] if end > start and following < len(self.positions) else None

    def names(self, start: int, end: int) -> tuple[str, ...]:
        """Of the definitions around a chunk, outermost first. Chunks are asked for in their order."""
        while self._names and self._names[-1][0] <= start:
            self._open.append(self._names.pop())
        self._open = [each for each in self._open if each[1] > start]
        return tuple(word for _, high, words in self._open if self._holds(high, end) for word in words)

    def _holds(self, high: int, end: int) -> bool:
        return end <= high or (end - high <= _MOST_AFTER and not self._text[high:end].strip(_AFTER))


class SyntaxPacker(Packer):
    """Ends a chunk before the last of the shallowest pieces in reach.

    It goes deeper only when the chunk would stay below the minimum and the next piece is too large anyway.
    The rest of a definition that was cut is not packed together with what follows it.
    """

    def __init__(
        self,
        text: str,
        plan: CutPlan,
        measure: Measure,
        config: ChunkingConfig,
        begin: int,
        end: int,
        marks: Landmarks,
    ) -> None:
        super().__init__(text, plan, measure, config, begin, end)
        self._marks = marks

    def _best_cut(self, start: int, floor: int, reach: int) -> tuple[int, bool]:
        beyond = self._skip_blanks(reach)  # blanks at the end of a chunk do not count
        way_out = self._marks.way_out(start)
        if way_out and floor < way_out <= beyond and self._is_enough(start, way_out):
            return min(way_out, self._length), True
        if beyond >= self._length:
            return self._length, True
        cut = self._piece(start, floor, beyond)
        return super()._best_cut(start, floor, reach) if cut is None else (cut, True)

    def _piece(self, start: int, floor: int, reach: int) -> int | None:
        marks = self._marks
        low, high = bisect_right(marks.positions, floor), bisect_right(marks.positions, reach)
        last = {marks.depths[index]: index for index in range(low, high)}
        for _, index in sorted(last.items()):
            if self._is_good(start, index):
                return marks.positions[index]
        return None

    def _is_good(self, start: int, index: int) -> bool:
        at, end = self._marks.positions[index], self._marks.ends[index]
        if self._is_enough(start, at):
            return True
        return self._skip_blanks(self._measure.reach(at, self._size)) >= min(end, self._length)

    def _is_enough(self, start: int, cut: int) -> bool:
        return self._measure.size(start, self._stripped_end(start, cut)) >= self._minimum

    def _overlap_start(self, start: int, end: int, fresh: int) -> int:
        """Nothing is repeated in front of a definition: only where one had to be cut."""
        return fresh if fresh in self._marks.whole else super()._overlap_start(start, end, fresh)
