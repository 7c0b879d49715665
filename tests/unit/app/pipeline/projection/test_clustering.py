from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.pipeline.projection.clustering import Clusters, cluster
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.neighbours import build_graph, prepare_rows

from .samples import groups

pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning:hdbscan")


def clusters_of(vectors: Any, tmp_path: Path, **options: Any) -> Clusters:
    rows = prepare_rows(vectors, "euclidean", tmp_path / "rows.npy")
    graph = build_graph(rows, 15, "euclidean", seed=1, threads=1, report=lambda _: None)
    return cluster(vectors, graph, ProjectionConfig(**options))


def test_groups_become_topics_numbered_by_size(tmp_path):
    from sklearn.metrics import adjusted_rand_score

    vectors, truth = groups(600, dimension=10, noise=0.05)
    found = clusters_of(vectors, tmp_path)
    sizes = np.bincount(found.labels[found.labels >= 0])
    assert found.count == 6
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert adjusted_rand_score(truth, found.nearest) > 0.99


def test_unassigned_points_stay_so_and_get_their_neighbours_topic(tmp_path):
    vectors, _ = groups(400, clusters=3, dimension=10, noise=0.05)
    stray = np.array([6 * vectors[0]], dtype=np.float32)
    nearest = np.argmin(np.linalg.norm(vectors - stray, axis=1))
    found = clusters_of(np.concatenate([vectors, stray]), tmp_path)
    assert found.labels[-1] == -1
    assert found.probabilities[-1] == 0
    assert found.nearest[-1] == found.labels[nearest]
    assert (found.nearest >= 0).all()


def test_max_topics_joins_the_nearest_ones(tmp_path):
    random = np.random.default_rng(0)
    centres = np.array([[0, 0], [0, 1], [9, 0], [9, 1], [0, 9]], dtype=np.float32)
    truth = np.repeat(np.arange(5), 60)
    vectors = (centres[truth] + 0.05 * random.normal(size=(300, 2))).astype(np.float32)
    found = clusters_of(vectors, tmp_path, max_topics=3)
    assert found.count == 3
    assert len({int(found.nearest[60 * i]) for i in (0, 1)}) == 1
    assert len({int(found.nearest[60 * i]) for i in (2, 3)}) == 1
    assert clusters_of(vectors, tmp_path).count == 5


def test_points_below_the_cluster_size_have_no_topic(tmp_path):
    vectors, _ = groups(20, dimension=10)
    found = clusters_of(vectors, tmp_path, min_cluster_size=30)
    assert found.count == 0
    assert set(found.labels) == set(found.nearest) == {-1}


def test_one_dense_group_is_one_topic(tmp_path):
    vectors, _ = groups(200, clusters=1, dimension=2, noise=0.1)
    assert clusters_of(vectors, tmp_path, min_cluster_size=60).count == 1
