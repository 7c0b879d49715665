from __future__ import annotations

import pytest

from app.errors import InvalidInputError
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.project import epochs_for
from app.pipeline.validation import validated


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"n_neighbors": 1}, "n_neighbors"),
        ({"n_neighbors": "15"}, "n_neighbors"),
        ({"min_dist": 1.5}, "min_dist"),
        ({"metric": "manhattan"}, "metric"),
        ({"min_cluster_size": 1}, "min_cluster_size"),
        ({"max_topics": 0}, "max_topics"),
        ({"seed": -1}, "seed"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_value_is_named(raw, field):
    with pytest.raises(InvalidInputError, match=field):
        validated(ProjectionConfig, raw, field="visualization_config")


def test_the_looks_of_the_original_are_taken_and_left_out():
    raw = {
        "n_neighbors": 7,
        "darkmode": True,
        "font_family": "Roboto",
        "polygon_alpha": 0.5,
        "llm_batch_size": 10,
    }
    config = validated(ProjectionConfig, raw, field="visualization_config")
    assert config == ProjectionConfig(n_neighbors=7)


def test_more_samples_than_the_cluster_has_points_are_refused():
    with pytest.raises(InvalidInputError, match=r"min_samples \(9\).*min_cluster_size \(8\)"):
        validated(ProjectionConfig, {"min_samples": 9, "min_cluster_size": 8}, field="visualization_config")


def test_cluster_size_grows_with_the_corpus_unless_it_is_given():
    sizes = [ProjectionConfig().cluster_size_for(points) for points in (10, 1_000, 20_000, 100_000)]
    assert sizes == [5, 11, 47, 105]
    assert ProjectionConfig(min_cluster_size=30).cluster_size_for(100_000) == 30


def test_large_corpora_get_fewer_rounds_unless_they_are_given():
    rounds = [epochs_for(ProjectionConfig(), points) for points in (100, 50_000, 100_000, 10_000_000)]
    assert rounds == [200, 200, 152, 100]
    assert epochs_for(ProjectionConfig(n_epochs=77), 100_000) == 77
