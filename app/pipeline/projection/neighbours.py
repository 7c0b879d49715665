"""The neighbour graph, built once and used by both layouts, the topic vote and the quality figures.

Exact up to EXACT_LIMIT points: a blocked matrix product and a two-step selection of the largest scores.
Above it the points are sorted into cells (k-means on a sample) and each cell is compared with the cells
that lie nearest to its members: the same product on a few per cent of the pairs. Nothing is compiled, so
a fresh process starts at full speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.config import Metric
from app.pipeline.projection.vectors import Float32, blocks

EXACT_LIMIT = 25_000

# Columns that share one slot of the first selection step; 32 reads fastest on vector units.
_GROUP = 32
# Scores held at once by one thread.
_SCORE_BYTES = 32 * 1024 * 1024
# Cells searched for each cell, as a share of all cells and at least so many.
_PROBE_SHARE = 0.12
_PROBE_MINIMUM = 24
_MEMBER_PROBES = 16
_KMEANS_ROUNDS = 6
_SAMPLE_PER_CELL = 64

Report = Callable[[float], None]


@dataclass(frozen=True)
class NeighbourGraph:
    """The k nearest rows of every row, nearest first; the first one is always the row itself.

    indices: int32 (n, k). distances: float32 (n, k), cosine distance (1 - cosine) or Euclidean.
    """

    indices: NDArray[np.int32]
    distances: Float32
    exact: bool


def prepare_rows(vectors: Float32, metric: Metric, path: Path) -> Float32:
    """A copy of the vectors on disk in which nearest means largest product: unit length, or centred.

    cosine: every row divided by its length (a zero row stays zero). euclidean: the mean subtracted, which
    changes no distance and keeps float32 precise.
    """
    rows: Float32 = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=vectors.shape)
    mean = _mean(vectors) if metric == "euclidean" else None
    for start, block in blocks(vectors):
        rows[start : start + len(block)] = _unit(block) if mean is None else block - mean
    return rows


def build_graph(
    rows: Float32, k: int, metric: Metric, *, seed: int, threads: int, report: Report
) -> NeighbourGraph:
    """The graph of the prepared rows (n, d) with min(k, n) neighbours each."""
    k = min(k, rows.shape[0])
    if rows.shape[0] <= EXACT_LIMIT:
        cells = _one_cell(rows.shape[0])
        ordered = rows
    else:
        cells = _cells(rows, metric, seed)
        ordered = np.ascontiguousarray(rows[cells.order])
    search = _Search(ordered, cells, k, metric)
    search.run(threads, report)
    return search.graph(exact=len(cells.bounds) == 2)  # noqa: PLR2004 - one cell has two bounds


def exact_scores(rows: Float32, queries: NDArray[np.integer], metric: Metric) -> Float32:
    """Scores (q, n) of some rows against all: larger means nearer."""
    return _scores(np.asarray(rows[queries]), rows, _half_squares(rows, metric))


@dataclass(frozen=True)
class _Cells:
    """order: row numbers sorted by cell; bounds: where each cell starts in it; probes: cells to search."""

    order: NDArray[np.int64]
    bounds: NDArray[np.int64]
    probes: list[NDArray[np.int64]]


class _Search:
    """One pass over all cells; results are written in place by several threads."""

    def __init__(self, rows: Float32, cells: _Cells, k: int, metric: Metric) -> None:
        self._rows = rows
        self._cells = cells
        self._k = k
        self._metric = metric
        self._half_squares = _half_squares(rows, metric)
        self._indices = np.empty((rows.shape[0], k), dtype=np.int64)
        self._distances = np.empty((rows.shape[0], k), dtype=np.float32)

    def run(self, threads: int, report: Report) -> None:
        """Search every block of queries; BLAS itself runs on one thread inside each of ours."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # publishes none

        done = 0
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
            for rows in pool.map(self._search_block, self._query_blocks()):
                done += rows
                report(done / self._rows.shape[0])

    def graph(self, *, exact: bool) -> NeighbourGraph:
        """The result in the order of the original rows."""
        order = self._cells.order
        indices = np.empty(self._indices.shape, dtype=np.int32)
        distances = np.empty_like(self._distances)
        indices[order] = order[self._indices]
        distances[order] = self._distances
        return NeighbourGraph(indices, distances, exact)

    def _query_blocks(self) -> Iterator[tuple[int, int, int]]:
        """(cell, first, last): queries whose scores fit the memory of one thread."""
        sizes = np.diff(self._cells.bounds)
        for cell, probes in enumerate(self._cells.probes):
            candidates = max(1, int(sizes[probes].sum()))
            step = max(1, _SCORE_BYTES // (4 * candidates))
            first, last = int(self._cells.bounds[cell]), int(self._cells.bounds[cell + 1])
            for start in range(first, last, step):
                yield cell, start, min(last, start + step)

    def _search_block(self, block: tuple[int, int, int]) -> int:
        cell, first, last = block
        numbers = self._candidate_numbers(cell)
        halves = None if self._half_squares is None else self._half_squares[numbers]
        candidates = self._rows if len(numbers) == len(self._rows) else self._rows[numbers]
        scores = _scores(self._rows[first:last], candidates, halves, pad_to=_GROUP)
        own = np.searchsorted(numbers, np.arange(first, last))
        scores[np.arange(last - first), own] = np.inf
        columns, best = top_columns(scores, self._k)
        self._indices[first:last] = numbers[columns]
        self._distances[first:last] = self._to_distances(best, first, last)
        return last - first

    def _candidate_numbers(self, cell: int) -> NDArray[np.int64]:
        bounds = self._cells.bounds
        return np.concatenate([np.arange(bounds[p], bounds[p + 1]) for p in self._cells.probes[cell]])

    def _to_distances(self, best: Float32, first: int, last: int) -> Float32:
        if self._half_squares is None:
            distances = np.maximum(0, 1 - best)
        else:
            distances = np.sqrt(np.maximum(0, 2 * (self._half_squares[first:last, None] - best)))
        distances[:, 0] = 0
        return distances.astype(np.float32)


def top_columns(scores: Float32, k: int) -> tuple[NDArray[np.int64], Float32]:
    """(columns, values), both (q, k), of the k largest scores per row, largest first.

    The width must be a multiple of 32. The largest value of each of width/32 groups of columns is found
    first; only the k best groups can hold the k best columns.
    """
    rows, width = scores.shape
    groups = width // _GROUP
    if groups > 2 * k:
        heads = scores.reshape(rows, _GROUP, groups).max(axis=1)
        chosen = np.argpartition(heads, groups - k, axis=1)[:, groups - k :]
        columns = (chosen[:, None, :] + groups * np.arange(_GROUP)[None, :, None]).reshape(rows, -1)
        values = np.take_along_axis(scores, columns, axis=1)
    else:
        columns, values = np.broadcast_to(np.arange(width), scores.shape), scores
    best = np.argpartition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k :]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(values, best, axis=1), axis=1), axis=1)
    return np.take_along_axis(columns, best, axis=1), np.take_along_axis(values, best, axis=1)


def _scores(queries: Float32, candidates: Float32, halves: Float32 | None, *, pad_to: int = 1) -> Float32:
    """Products of all pairs, minus half the squared lengths for Euclidean; padded columns are -inf."""
    width = candidates.shape[0]
    scores = np.empty((queries.shape[0], -(-width // pad_to) * pad_to), dtype=np.float32)
    np.matmul(queries, candidates.T, out=scores[:, :width])
    if halves is not None:
        scores[:, :width] -= halves
    scores[:, width:] = -np.inf
    return scores


def _one_cell(rows: int) -> _Cells:
    return _Cells(np.arange(rows), np.array([0, rows]), [np.array([0])])


def _cells(rows: Float32, metric: Metric, seed: int) -> _Cells:
    """Cells of about sqrt(n) points, and for each the cells that its members lie nearest to."""
    count = round(rows.shape[0] ** 0.5)
    centres = _centres(rows, count, metric, seed)
    assigned = np.empty(rows.shape[0], dtype=np.int64)
    votes = np.zeros((count, count), dtype=np.float32)
    halves = _half_squares(centres, metric)
    weights = 1 / np.arange(1, _MEMBER_PROBES + 1, dtype=np.float32)
    for start, block in blocks(rows):
        near, _ = top_columns(_scores(block, centres, halves, pad_to=_GROUP), _MEMBER_PROBES)
        assigned[start : start + len(block)] = near[:, 0]
        np.add.at(votes, (np.repeat(near[:, 0], _MEMBER_PROBES), near.ravel()), np.tile(weights, len(block)))
    order = np.argsort(assigned, kind="stable")
    bounds = np.searchsorted(assigned[order], np.arange(count + 1))
    probes = max(_PROBE_MINIMUM, round(count * _PROBE_SHARE))
    ranked = np.argsort(-(votes + 1e-6 * _affinity(centres, halves)), axis=1, kind="stable")
    return _Cells(order, bounds, [_enough(np.diff(bounds), near, probes) for near in ranked])


def _affinity(centres: Float32, halves: Float32 | None) -> Float32:
    """Scores between centres in 0..1, which rank the cells that no member voted for."""
    scores = _scores(centres, centres, halves)
    result: Float32 = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    return result


def _enough(sizes: NDArray[np.int64], ranked: NDArray[np.int64], probes: int) -> NDArray[np.int64]:
    """The first cells of a ranking, as many as `probes` and until a few hundred points are in them."""
    filled = int(np.searchsorted(np.cumsum(sizes[ranked]), 16 * _GROUP)) + 1
    return np.sort(ranked[: max(probes, filled)])


def _centres(rows: Float32, count: int, metric: Metric, seed: int) -> Float32:
    """k-means (spherical for cosine) on a sample, started from rows drawn at random."""
    random = np.random.default_rng(seed)
    size = min(rows.shape[0], count * _SAMPLE_PER_CELL)
    sample = np.asarray(rows[np.sort(random.choice(rows.shape[0], size, replace=False))])
    centres = sample[random.choice(size, count, replace=False)].copy()
    for _ in range(_KMEANS_ROUNDS):
        nearest = _nearest_centre(sample, centres, _half_squares(centres, metric))
        centres = _means(sample, nearest, centres)
        if metric == "cosine":
            centres = _unit(centres)
    return centres


def _nearest_centre(sample: Float32, centres: Float32, halves: Float32 | None) -> NDArray[np.int64]:
    return np.concatenate([_scores(block, centres, halves).argmax(axis=1) for _, block in blocks(sample)])


def _means(sample: Float32, nearest: NDArray[np.int64], centres: Float32) -> Float32:
    """The mean of each centre's rows; a centre with none stays where it is."""
    order = np.argsort(nearest, kind="stable")
    present, starts = np.unique(nearest[order], return_index=True)
    sums = np.add.reduceat(sample[order], starts, axis=0)
    counts = np.diff(np.append(starts, len(order)))
    moved = centres.copy()
    moved[present] = sums / counts[:, None]
    return moved


def _half_squares(rows: Float32, metric: Metric) -> Float32 | None:
    if metric == "cosine":
        return None
    halves: Float32 = np.concatenate([np.einsum("ij,ij->i", block, block) / 2 for _, block in blocks(rows)])
    return halves


def _mean(vectors: Float32) -> Float32:
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    for _, block in blocks(vectors):
        total += block.sum(axis=0, dtype=np.float64)
    mean: Float32 = (total / vectors.shape[0]).astype(np.float32)
    return mean


def _unit(rows: Float32) -> Float32:
    # In float64: the square of a large float32 value is infinite.
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))[:, None]
    lengths[lengths == 0] = 1
    result: Float32 = (rows / lengths).astype(np.float32)
    return result
