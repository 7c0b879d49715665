"""Principal components of a large matrix: the start of both layouts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.vectors import Float32, blocks

# Directions are estimated from this many evenly spaced rows; more changes nothing a map could show.
SAMPLE_ROWS = 20_000


def principal_coordinates(rows: Float32, count: int) -> Float32:
    """Coordinates (n, count) of the rows (n, d) along their widest directions, widest first.

    Directions that the data does not have (count > d, or fewer distinct rows) come back as zeros.
    """
    mean, axes = _principal_axes(rows, min(count, rows.shape[1]))
    coordinates = np.zeros((rows.shape[0], count), dtype=np.float32)
    for start, block in blocks(rows):
        coordinates[start : start + len(block), : axes.shape[1]] = (block - mean) @ axes
    return coordinates


def _principal_axes(rows: Float32, count: int) -> tuple[Float32, Float32]:
    """(mean (d,), axes (d, count)): eigenvectors of the covariance with the largest eigenvalues."""
    from scipy.linalg import eigh

    step = max(1, rows.shape[0] // SAMPLE_ROWS)
    sample = np.asarray(rows[::step][:SAMPLE_ROWS])
    mean = sample.mean(axis=0)
    centred = sample - mean
    covariance: NDArray[np.float64] = (centred.T @ centred).astype(np.float64)
    size = covariance.shape[0]
    _, axes = eigh(covariance, subset_by_index=(size - count, size - 1), overwrite_a=True)
    return mean, _with_fixed_signs(np.ascontiguousarray(axes[:, ::-1], dtype=np.float32))


def _with_fixed_signs(axes: Float32) -> Float32:
    """An eigenvector and its negative are both right; the larger entry positive makes runs agree."""
    largest = np.argmax(np.abs(axes), axis=0)
    signs = np.sign(axes[largest, np.arange(axes.shape[1])])
    signs[signs == 0] = 1
    result: Float32 = axes * signs
    return result
