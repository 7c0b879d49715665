"""Made-up vectors with known groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def groups(
    points: int, clusters: int = 6, dimension: int = 32, noise: float = 0.15, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(vectors (points, dimension), group of each): tight groups around random centres."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, clusters, points)
    centres = random.normal(size=(clusters, dimension))
    return (centres[labels] + noise * random.normal(size=(points, dimension))).astype(np.float32), labels
