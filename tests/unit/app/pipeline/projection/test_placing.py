from __future__ import annotations

import numpy as np
import pytest

from app.pipeline.projection.placing import exemplars, fit_square, label_places, label_zooms


def test_the_longer_side_fills_the_square_and_proportions_stay():
    points = fit_square(np.array([[0, 0], [10, 5], [5, 0]], dtype=np.float32))
    assert points.tolist() == [[-1, -0.5], [1, 0.5], [0, -0.5]]


def test_equal_points_lie_in_the_middle():
    assert fit_square(np.full((3, 2), 7, dtype=np.float32)).tolist() == [[0, 0]] * 3


def test_a_label_stands_at_the_median_of_its_points():
    points = np.array([[0, 0], [0.1, 0], [0.2, 0], [1, 1], [-1, -1]], dtype=np.float32)
    labels = np.array([0, 0, 0, 0, 1], dtype=np.int32)
    places = label_places(points, labels, 2)
    assert places.tolist() == [pytest.approx([0.15, 0], abs=1e-6), [-1, -1]]


def test_labels_that_would_overlap_wait_for_a_closer_zoom():
    places = np.array([[0, 0], [0.05, 0.01], [0.9, 0.9], [0.0501, 0.01]], dtype=np.float32)
    assert label_zooms(places) == [0, 4, 0, 12]


def test_exemplars_are_the_most_central_points():
    reduced = np.array([[0.0], [1.0], [2.0], [9.0]], dtype=np.float32)
    assert exemplars(reduced, np.array([1.1], dtype=np.float32), np.array([0, 1, 2]), 2) == (1, 2)
