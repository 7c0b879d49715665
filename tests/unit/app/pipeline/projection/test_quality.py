from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.pipeline.projection.neighbours import build_graph, prepare_rows
from app.pipeline.projection.quality import measure

from .samples import groups


def figures_for(points: Any, tmp_path: Path, metric: Any = "euclidean") -> tuple[Any, Any, dict[str, float]]:
    vectors, _ = groups(600, noise=0.5)
    rows = prepare_rows(vectors, metric, tmp_path / "rows.npy")
    graph = build_graph(rows, 16, metric, seed=1, threads=1, report=lambda _: None)
    chosen = points if points is not None else vectors[:, :2]
    return vectors, chosen, measure(rows, graph, np.ascontiguousarray(chosen), metric, seed=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_trustworthiness_agrees_with_scikit_learn(tmp_path, metric):
    from sklearn.manifold import trustworthiness

    vectors, points, figures = figures_for(None, tmp_path, metric)
    expected = trustworthiness(vectors, points, n_neighbors=15, metric=metric)
    assert figures["trustworthiness"] == pytest.approx(expected, abs=1e-3)
    assert figures["graph_recall"] == 1.0


def test_a_random_map_scores_like_chance(tmp_path):
    points = np.random.default_rng(3).normal(size=(600, 2)).astype(np.float32)
    _, _, figures = figures_for(points, tmp_path)
    assert 0.4 < figures["trustworthiness"] < 0.6
    assert figures["neighbour_recall"] < 0.06


def test_too_few_points_have_no_figures(tmp_path):
    vectors, _ = groups(3)
    rows = prepare_rows(vectors, "cosine", tmp_path / "rows.npy")
    graph = build_graph(rows, 15, "cosine", seed=1, threads=1, report=lambda _: None)
    assert measure(rows, graph, np.zeros((3, 2), dtype=np.float32), "cosine", seed=1) == {}
