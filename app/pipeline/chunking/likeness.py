"""Where a text changes its subject, judged by the vectors of overlapping windows over its sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

_DIGITS = 6  # of float32: two equal texts are alike by 1, not by a little less


@dataclass(slots=True)
class Likeness:
    """How alike windows of `around` sentences on each side of one are, for the border after each sentence.

    `near`: of this sentence's window and the next one's. They share sentences, so that they differ where a
    new subject comes into view and where the old one leaves it: `around` borders too early and too late.
    `apart`: of the two windows that meet at the border and share nothing, which differ most at the change
    itself, but are never very alike. So `near` says whether to cut, and `apart` where.
    """

    around: int
    near: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, parts: Iterable[Vectors], around: int) -> Likeness:
        """From the windows' vectors, part by part; no more are held. nan: that one is not known."""
        near, apart, step = [], [np.full(around, np.inf)], 2 * around + 1
        held: Vectors | None = None
        for rows in parts:
            joined = rows if held is None else np.concatenate((held, rows))
            near.append(_alike(joined if held is None else joined[len(held) - 1 :], 1))
            apart.append(_alike(joined, step))
            held = joined[-step:]
        apart.append(apart[0])
        known = np.nan_to_num(np.concatenate(apart), nan=np.inf).tolist()
        return cls(around, np.concatenate(near).tolist() if near else [], known)

    def changes(self, first: int, past: int, threshold: float) -> list[int]:
        """The sentences from `first` on, and before `past`, that begin a subject, but for the first."""
        borders = range(first, past - 1)
        low = (border for border in borders if self.near[border] < threshold)
        return sorted({self._place(border, borders) + 1 for border in low})

    def _place(self, border: int, borders: range) -> int:
        nearby = range(max(borders.start, border - self.around), min(borders.stop, border + self.around + 1))
        return min(nearby, key=lambda one: (self.apart[one], abs(one - border)))

    def joined(self, cuts: Sequence[int], is_small: Callable[[int, int], bool]) -> list[tuple[int, int]]:
        """The stretches between cuts; a small one goes with the neighbour that it is more like."""
        spans: list[tuple[int, int]] = []
        first, last = cuts[0], cuts[-1]
        for past in cuts[1:]:
            small = is_small(first, past)
            if small and past < last and (not spans or self.apart[past - 1] >= self.apart[first - 1]):
                continue
            if small and spans:
                spans[-1] = (spans[-1][0], past)
            else:
                spans.append((first, past))
            first = past
        return spans


def _alike(rows: Vectors, step: int) -> NDArray[np.float64]:
    """Cosines of rows of unit length that are so many apart."""
    cosines = np.einsum("ij,ij->i", rows[:-step], rows[step:], dtype=np.float64)
    return np.asarray(cosines.round(_DIGITS))
