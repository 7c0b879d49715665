"""How far a map may be trusted, as figures that are stored with it.

Trustworthiness follows J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods"
(2001): 1 minus the normalised sum of rank excesses of false neighbours. Neighbour recall is the share of a
point's true nearest neighbours that are also nearest on the map. The first looks good early, the second
never does: both belong beside each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.config import Metric
from app.pipeline.projection.neighbours import NeighbourGraph, exact_scores
from app.pipeline.projection.vectors import Float32

NEIGHBOURS = 15
SAMPLE = 1_000

# Scores of the sample against all points are held in slices of this many queries.
_SLICE = 100


def measure(
    rows: Float32, graph: NeighbourGraph, points: Float32, metric: Metric, *, seed: int
) -> dict[str, float]:
    """Figures in 0..1 for the prepared rows (n, d), their graph and their places (n, 2).

    trustworthiness, neighbour_recall: the map against the original vectors, exact, for a sample of points.
    graph_recall: the neighbour graph against the exact one (1.0 where the graph is exact).
    Empty when there are too few points for the figures to mean anything.
    """
    count = rows.shape[0]
    k = min(NEIGHBOURS, (count - 1) // 3)
    if k < 1:
        return {}
    sample = np.random.default_rng(seed).permutation(count)[:SAMPLE]
    near = _nearest_on_map(points, sample, k)
    excess, kept, found = 0.0, 0.0, 0.0
    for start in range(0, len(sample), _SLICE):
        queries = sample[start : start + _SLICE]
        ranks, graph_hits = _ranks(rows, queries, near[start : start + _SLICE], graph, metric, k)
        excess += float(np.maximum(0, ranks - k).sum())
        kept += float((ranks <= k).sum())
        found += graph_hits
    scale = 2.0 / (len(sample) * k * (2.0 * count - 3.0 * k - 1.0))
    return {
        "trustworthiness": 1.0 - scale * excess,
        "neighbour_recall": kept / (len(sample) * k),
        "graph_recall": found / (len(sample) * min(k, graph.indices.shape[1] - 1)),
        "neighbours": float(k),
        "sample": float(len(sample)),
    }


def _nearest_on_map(points: Float32, sample: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """(q, k) nearest points on the map, the point itself left out."""
    from scipy.spatial import cKDTree

    _, found = cKDTree(points).query(points[sample], k=k + 1)
    near = np.empty((len(sample), k), dtype=np.int64)
    for row, (own, candidates) in enumerate(zip(sample, found, strict=True)):
        near[row] = candidates[candidates != own][:k]
    return near


def _ranks(
    rows: Float32,
    queries: NDArray[np.int64],
    near: NDArray[np.int64],
    graph: NeighbourGraph,
    metric: Metric,
    k: int,
) -> tuple[NDArray[np.int64], float]:
    """(rank of each map neighbour among the true neighbours, 1 = nearest; hits of the graph).

    Ties count in favour of the map: equal texts have no order among themselves.
    """
    scores = exact_scores(rows, queries, metric)
    scores[np.arange(len(queries)), queries] = -np.inf
    ranks = np.empty(near.shape, dtype=np.int64)
    hits = 0.0
    width = min(k, graph.indices.shape[1] - 1)
    for i, own in enumerate(scores):
        ranks[i] = [int((own > value).sum()) + 1 for value in own[near[i]]]
        border = np.partition(own, len(own) - width)[len(own) - width]
        hits += float((own[graph.indices[queries[i], 1 : width + 1]] >= border).sum())
    return ranks, hits
