"""From raw layout to map: coordinates, and where and from which zoom level each topic's label stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.vectors import Float32

# A label's box as shares of the visible map at any zoom, and the closest zoom level.
_LABEL_WIDTH = 0.22
_LABEL_HEIGHT = 0.05
_CLOSEST_ZOOM = 12


def fit_square(positions: Float32) -> Float32:
    """Positions (n, 2) moved and scaled so that the longer side fills [-1, 1]; proportions are kept."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    half = float((high - low).max()) / 2
    if half == 0:
        return np.zeros_like(positions)
    result: Float32 = np.clip((positions - (low + high) / 2) / half, -1, 1).astype(np.float32)
    return result


def label_places(points: Float32, labels: NDArray[np.int32], count: int) -> Float32:
    """(count, 2): the median of each topic's points, which outliers do not move."""
    places = np.empty((count, 2), dtype=np.float32)
    for topic, rows in enumerate(members(labels, count)):
        places[topic] = np.median(points[rows], axis=0)
    return places


def label_zooms(places: Float32) -> list[int]:
    """For each label (largest topic first) the first zoom level at which it covers no larger topic's label.

    At zoom z the map's width of 2 is seen through a window of 2 / 2^z.
    """
    zooms = np.zeros(len(places), dtype=np.int64)
    for topic, place in enumerate(places):
        distance = np.abs(places[:topic] - place)
        zoom = 0
        while zoom < _CLOSEST_ZOOM:
            scale = 2.0 / 2.0 ** np.maximum(zoom, zooms[:topic])
            clash = (distance[:, 0] < _LABEL_WIDTH * scale) & (distance[:, 1] < _LABEL_HEIGHT * scale)
            if not clash.any():
                break
            zoom += 1
        zooms[topic] = zoom
    return [int(zoom) for zoom in zooms]


def members(labels: NDArray[np.int32], count: int) -> list[NDArray[np.int64]]:
    """The rows of each topic 0..count-1, ascending."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(count + 1))
    return [order[bounds[topic] : bounds[topic + 1]] for topic in range(count)]


def exemplars(reduced: Float32, centre: Float32, rows: NDArray[np.int64], wanted: int) -> tuple[int, ...]:
    """The rows that lie nearest to a topic's centre in the reduced space (n, c), nearest first."""
    distances = np.linalg.norm(reduced[rows] - centre, axis=1)
    return tuple(int(row) for row in rows[np.argsort(distances, kind="stable")[:wanted]])
