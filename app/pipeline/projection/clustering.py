"""Topics as dense regions: HDBSCAN on the 10-D reduction, and a vote for the points that it leaves out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.base import UNASSIGNED
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.neighbours import NeighbourGraph
from app.pipeline.projection.vectors import Float32

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Clusters:
    """labels, probabilities and nearest topic as in `Projection`; `centres` float32 (topics, c)."""

    labels: Labels
    probabilities: Float32
    nearest: Labels
    centres: Float32

    @property
    def count(self) -> int:
        """Number of topics."""
        return len(self.centres)


def cluster(reduced: Float32, graph: NeighbourGraph, config: ProjectionConfig) -> Clusters:
    """Topics of the reduced points (n, c), numbered by size, the largest first."""
    labels, probabilities = _dense_regions(reduced, config)
    if config.max_topics is not None:
        labels = _merged(labels, _centres(reduced, labels), config.max_topics)
    labels = _by_size(labels)
    strengths: Float32 = np.where(labels == UNASSIGNED, 0, probabilities).astype(np.float32)
    centres = _centres(reduced, labels)
    return Clusters(labels, strengths, _vote(reduced, labels, centres, graph), centres)


def one_cluster(reduced: Float32) -> Clusters:
    """Every point in one topic."""
    labels = np.zeros(len(reduced), dtype=np.int32)
    return Clusters(labels, np.ones(len(reduced), dtype=np.float32), labels, _centres(reduced, labels))


def _dense_regions(reduced: Float32, config: ProjectionConfig) -> tuple[Labels, NDArray[np.float64]]:
    """HDBSCAN; where it sees no division at all, its own single-cluster answer."""
    size = config.cluster_size_for(len(reduced))
    if len(reduced) < max(size, 2):
        return np.full(len(reduced), UNASSIGNED, dtype=np.int32), np.zeros(len(reduced))
    labels, probabilities = _hdbscan(reduced, size, config.min_samples, single=False)
    if (labels == UNASSIGNED).all():
        labels, probabilities = _hdbscan(reduced, size, config.min_samples, single=True)
    return labels, probabilities


def _hdbscan(
    reduced: Float32, size: int, min_samples: int, *, single: bool
) -> tuple[Labels, NDArray[np.float64]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of syntax in the package's own docstrings
        from hdbscan import HDBSCAN
    found = HDBSCAN(
        min_cluster_size=size,
        min_samples=min(min_samples, len(reduced) - 1),
        allow_single_cluster=single,
        core_dist_n_jobs=1,  # more would start processes of its own
    ).fit(reduced.astype(np.float64))
    return found.labels_.astype(np.int32), found.probabilities_


def _merged(labels: Labels, centres: Float32, most: int) -> Labels:
    """At most `most` topics: the nearest centres are joined first (Ward)."""
    if len(centres) <= most:
        return labels
    from scipy.cluster.hierarchy import fcluster, linkage

    joined = fcluster(linkage(centres.astype(np.float64), "ward"), most, criterion="maxclust") - 1
    return np.where(labels == UNASSIGNED, UNASSIGNED, joined[labels]).astype(np.int32)


def _by_size(labels: Labels) -> Labels:
    present, sizes = np.unique(labels[labels != UNASSIGNED], return_counts=True)
    numbers = np.full(int(labels.max(initial=UNASSIGNED)) + 2, UNASSIGNED, dtype=np.int32)
    numbers[present[np.argsort(-sizes, kind="stable")]] = np.arange(len(present), dtype=np.int32)
    numbers[UNASSIGNED] = UNASSIGNED
    result: Labels = numbers[labels]
    return result


def _centres(reduced: Float32, labels: Labels) -> Float32:
    count = int(labels.max(initial=UNASSIGNED)) + 1
    sums = np.zeros((count, reduced.shape[1]))
    assigned = labels != UNASSIGNED
    np.add.at(sums, labels[assigned], reduced[assigned])
    sizes = np.bincount(labels[assigned], minlength=count)
    result: Float32 = (sums / np.maximum(1, sizes)[:, None]).astype(np.float32)
    return result


def _vote(reduced: Float32, labels: Labels, centres: Float32, graph: NeighbourGraph) -> Labels:
    """For each unassigned point the topic of most of its neighbours, nearer ones counting more."""
    nearest = labels.copy()
    left_out = np.flatnonzero(labels == UNASSIGNED)
    if not len(centres) or not len(left_out):
        return nearest
    from scipy.sparse import csr_array

    neighbours = labels[graph.indices[left_out, 1:]]
    weights = np.broadcast_to(1 / np.arange(1, neighbours.shape[1] + 1), neighbours.shape)
    voting = neighbours != UNASSIGNED
    rows = np.broadcast_to(np.arange(len(left_out))[:, None], neighbours.shape)
    votes = csr_array(
        (weights[voting], (rows[voting], neighbours[voting])), shape=(len(left_out), len(centres))
    )
    nearest[left_out] = votes.argmax(axis=1).ravel()
    silent = left_out[~voting.any(axis=1)]
    nearest[silent] = _nearest_centre(reduced[silent], centres)
    return nearest


def _nearest_centre(points: Float32, centres: Float32) -> Labels:
    from scipy.spatial import cKDTree

    found = cKDTree(centres).query(points)[1] if len(points) else np.empty(0)
    return np.asarray(found, dtype=np.int32)
