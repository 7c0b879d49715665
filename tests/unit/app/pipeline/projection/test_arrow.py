from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from app.pipeline.projection.arrow import read_points, write_points
from app.pipeline.projection.base import Projection


def a_map(points: int) -> Projection:
    random = np.random.default_rng(0)
    return Projection(
        points=random.uniform(-1, 1, (points, 2)).astype(np.float32),
        labels=np.arange(points, dtype=np.int32) - 1,
        probabilities=random.random(points, dtype=np.float32),
        nearest_topic=np.arange(points, dtype=np.int32),
        topics=(),
        quality={},
        timings_seconds={},
    )


def test_points_come_back_with_their_ids(tmp_path):
    projection, ids = a_map(5), [UUID(int=i) for i in range(5)]
    write_points(tmp_path / "points.arrow", projection, ids, [10, 10, 11, 11, 12])
    points = read_points((tmp_path / "points.arrow").read_bytes())
    assert len(points) == 5
    (row,) = points.rows(3, 1)
    assert row == {
        "point_id": str(UUID(int=3)),
        "item_id": 11,
        "x": projection.points[3, 0],
        "y": projection.points[3, 1],
        "cluster": 2,
        "nearest": 3,
        "probability": projection.probabilities[3],
    }


def test_ids_must_match_the_points(tmp_path):
    with pytest.raises(ValueError, match="5 points, 4 ids, 5 items"):
        write_points(tmp_path / "points.arrow", a_map(5), [UUID(int=i) for i in range(4)], list(range(5)))
