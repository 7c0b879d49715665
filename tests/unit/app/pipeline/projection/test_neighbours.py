from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pipeline.projection import neighbours
from app.pipeline.projection.neighbours import NeighbourGraph, build_graph, prepare_rows, top_columns

from .samples import groups


def true_distances(vectors: Any, metric: Any, *, every: int = 1) -> Any:
    """From one vector in `every` to all of them."""
    from scipy.spatial.distance import cdist

    exact = vectors.astype(np.float64)
    return cdist(exact[::every], exact, metric)


def graph_of(vectors: Any, tmp_path: Path, *, k: int = 10, metric: Any = "cosine") -> NeighbourGraph:
    rows = prepare_rows(vectors, metric, tmp_path / "rows.npy")
    return build_graph(rows, k, metric, seed=1, threads=2, report=lambda _: None)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_small_graphs_are_exact(tmp_path, metric):
    vectors, _ = groups(700)
    graph = graph_of(vectors + 3, tmp_path, metric=metric)
    expected = np.sort(true_distances(vectors + 3, metric), axis=1)[:, :10]
    assert graph.exact
    assert graph.indices[:, 0].tolist() == list(range(700))
    np.testing.assert_allclose(graph.distances, expected, atol=2e-3 if metric == "euclidean" else 1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_graphs_by_cells_find_nearly_all_neighbours(tmp_path, monkeypatch, metric):
    monkeypatch.setattr(neighbours, "EXACT_LIMIT", 1_000)
    vectors, _ = groups(6_000, clusters=12, noise=0.4)
    graph = graph_of(vectors, tmp_path, metric=metric)
    nearest = np.argsort(true_distances(vectors, metric, every=10), axis=1)[:, :10]
    pairs = zip(graph.indices[::10], nearest, strict=True)
    found = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in pairs])
    assert not graph.exact
    assert graph.indices[:, 0].tolist() == list(range(6_000))
    assert found > 0.95


def test_cells_of_equal_vectors_do_not_get_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "EXACT_LIMIT", 500)
    graph = graph_of(np.ones((1_200, 8), dtype=np.float32), tmp_path)
    assert (graph.distances < 1e-6).all()
    assert all(len(set(row)) == 10 for row in graph.indices.tolist())


def test_fewer_points_than_neighbours_give_all_of_them(tmp_path):
    vectors, _ = groups(4)
    graph = graph_of(vectors, tmp_path)
    assert np.sort(graph.indices, axis=1).tolist() == [[0, 1, 2, 3]] * 4


def test_progress_ends_at_one(tmp_path):
    vectors, _ = groups(2_000)
    shares: list[float] = []
    rows = prepare_rows(vectors, "cosine", tmp_path / "rows.npy")
    build_graph(rows, 5, "cosine", seed=1, threads=2, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@settings(max_examples=60, deadline=None)
@given(groups_of_columns=st.integers(1, 12), k=st.integers(1, 12), seed=st.integers(0, 1_000))
def test_selection_by_groups_agrees_with_a_full_sort(groups_of_columns, k, seed):
    scores = np.random.default_rng(seed).integers(0, 50, (5, 32 * groups_of_columns)).astype(np.float32)
    columns, values = top_columns(scores, k)
    np.testing.assert_array_equal(values, -np.sort(-scores, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(scores, columns, axis=1), values)
    assert all(len(set(row)) == k for row in columns.tolist())
