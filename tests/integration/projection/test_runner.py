from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from app.errors import InvalidInputError, JobCancelledError
from app.pipeline.projection.base import ProjectionInput
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.runner import ProjectionRunner
from app.pipeline.projection.vectors import write_texts, write_vectors
from app.pipeline.sandbox import ChildCrashedError, ChildMemoryError, ChildTimeoutError
from tests.unit.app.pipeline.projection.samples import groups

WORDS = ("river", "engine", "violin", "comet", "tax", "garden")


def a_job(folder: Path, points: int = 600, *, noise: float = 0.15, **options: Any) -> ProjectionInput:
    vectors, labels = groups(points, noise=noise)
    write_vectors([vectors], folder / "vectors.npy")
    write_texts(
        (f"the {WORDS[g]} of number {i}, its hue{i} and shape{i}" for i, g in enumerate(labels)),
        folder / "texts.jsonl",
    )
    return ProjectionInput(folder / "vectors.npy", folder / "texts.jsonl", ProjectionConfig(**options))


def children_of_this_process() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


def test_a_map_of_six_subjects_shows_and_names_six_topics(runner, tmp_path):
    from sklearn.metrics import adjusted_rand_score

    progress: list[tuple[str, float]] = []
    result = runner.run(
        a_job(tmp_path, seed=3), on_progress=lambda stage, share: progress.append((stage, share))
    )
    assert result.points.shape == (600, 2)
    assert np.abs(result.points).max() == pytest.approx(1, abs=1e-6)
    assert {topic.name.split(",")[0].split()[0] for topic in result.topics} == set(WORDS)
    assert sum(topic.size for topic in result.topics) == (result.labels >= 0).sum()
    assert adjusted_rand_score(groups(600)[1], result.nearest_topic) > 0.98
    assert result.quality["trustworthiness"] > 0.9
    assert 0 < result.quality["neighbour_recall"] <= 1
    for topic in result.topics:
        assert all(result.labels[row] == topic.id for row in topic.exemplar_rows)
    shares = [share for _, share in progress]
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    assert {stage for stage, _ in progress} >= {"checking", "neighbours", "layout", "clusters", "quality"}
    assert {path.name for path in tmp_path.iterdir()} == {"vectors.npy", "texts.jsonl"}


def test_the_same_input_gives_the_same_map_also_in_another_process(runner, tmp_path):
    job = a_job(tmp_path)
    first, second = runner.run(job), runner.run(job)
    runner.close()
    third = runner.run(job)
    for other in (second, third):
        np.testing.assert_array_equal(first.points, other.points)
        np.testing.assert_array_equal(first.labels, other.labels)
        assert first.topics == other.topics


@pytest.mark.parametrize(
    "options",
    [
        {"n_neighbors": 5},
        {"min_dist": 0.8},
        {"metric": "euclidean"},
        {"n_epochs": 50},
        {"min_cluster_size": 110, "min_samples": 5},
        {"min_samples": 1},
        {"max_topics": 3},
        {"keywords_per_topic": 3},
        {"samples_per_cluster": 1},
        {"seed": 7},
    ],
)
def test_every_option_changes_the_map(runner, tmp_path, options):
    # Groups that overlap, so that neither topics nor places are forced.
    plain = runner.run(a_job(tmp_path, 300, noise=4))
    changed = runner.run(a_job(tmp_path, 300, noise=4, **options))
    assert (
        not np.array_equal(plain.points, changed.points)
        or not np.array_equal(plain.labels, changed.labels)
        or plain.topics != changed.topics
    )


@pytest.mark.parametrize("points", [1, 2, 5, 20])
def test_few_points_make_a_map(runner, tmp_path, points):
    result = runner.run(a_job(tmp_path, points))
    assert result.points.shape == (points, 2)
    assert np.isfinite(result.points).all()
    assert len(result.labels) == points


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equal_vectors_are_one_topic(runner, tmp_path, metric):
    write_vectors([np.ones((300, 8))], tmp_path / "vectors.npy")
    write_texts(["always the violin"] * 300, tmp_path / "texts.jsonl")
    config = ProjectionConfig(metric=metric)
    result = runner.run(ProjectionInput(tmp_path / "vectors.npy", tmp_path / "texts.jsonl", config))
    assert [(topic.name, topic.size) for topic in result.topics] == [("violin", 300)]
    assert np.isfinite(result.points).all()


def test_topics_without_texts_are_numbered(runner, tmp_path):
    job = a_job(tmp_path)
    result = runner.run(ProjectionInput(job.vectors_path, None))
    assert [topic.name for topic in result.topics] == [f"Topic {i}" for i in range(1, 7)]
    assert {topic.name_source for topic in result.topics} == {"number"}


def test_nothing_to_map_is_said_in_words(runner, tmp_path):
    write_vectors([], tmp_path / "vectors.npy")
    with pytest.raises(InvalidInputError, match="nothing to map"):
        runner.run(ProjectionInput(tmp_path / "vectors.npy", None))


def test_a_value_that_is_not_finite_is_refused(runner, tmp_path):
    vectors = np.zeros((50, 4), dtype=np.float32)
    vectors[17, 2] = np.nan
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(InvalidInputError, match="row 17"):
        runner.run(ProjectionInput(tmp_path / "vectors.npy", None))


def test_texts_that_do_not_match_are_refused(runner, tmp_path):
    job = a_job(tmp_path)
    write_texts(["only one"], tmp_path / "texts.jsonl")
    with pytest.raises(InvalidInputError, match="1 texts for 600 vectors"):
        runner.run(job)


def test_a_namer_in_this_process_names_the_topics(runner, tmp_path):
    result = runner.run(a_job(tmp_path), namer=lambda request: f"About {request.keywords[0]}")
    assert all(topic.name.startswith("About ") for topic in result.topics)


def test_the_child_is_killed_at_the_limit(cache_dir, tmp_path):
    job = a_job(tmp_path, 20_000, n_epochs=1000)
    with (
        ProjectionRunner(cache_dir, timeout_seconds=1.5) as runner,
        pytest.raises(ChildTimeoutError, match=r"within 1\.5 seconds.*PROCESSING_TIMEOUT_SECS"),
    ):
        before = children_of_this_process()
        runner.run(job)
    assert children_of_this_process() <= before
    assert {path.name for path in tmp_path.iterdir()} == {"vectors.npy", "texts.jsonl"}


def test_a_cancelled_map_ends_in_the_middle_of_its_layout(runner, tmp_path):
    job = a_job(tmp_path, 20_000, n_epochs=1000)
    stages: list[str] = []

    with pytest.raises(JobCancelledError, match="stage 'layout'"):
        runner.run(
            job,
            on_progress=lambda stage, _: stages.append(stage),
            should_cancel=lambda: "layout" in stages,
        )
    assert stages[-1] == "layout"


def test_a_child_that_is_killed_from_outside_says_so_and_the_next_map_works(runner, tmp_path):
    before = children_of_this_process()

    def kill(_stage: str, _share: float) -> None:
        for pid in children_of_this_process():
            if "sandbox_child" in " ".join(psutil.Process(pid).cmdline()):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(ChildCrashedError, match="SIGKILL"):
        runner.run(a_job(tmp_path, 5_000), on_progress=kill)
    assert children_of_this_process() <= before
    assert runner.run(a_job(tmp_path)).topics


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is enforced by Linux only")
def test_a_map_over_its_memory_says_how_much_it_had(cache_dir, tmp_path):
    with ProjectionRunner(cache_dir, timeout_seconds=60, memory_bytes=48 * 2**20) as runner:
        runner.warm()
        with pytest.raises(ChildMemoryError, match="48 MiB"):
            runner.run(a_job(tmp_path, 20_000))


def test_the_child_dies_with_its_parent(cache_dir, tmp_path):
    a_job(tmp_path, 20_000, n_epochs=1000)
    script = (
        "import sys; from pathlib import Path\n"
        "from app.pipeline.projection.runner import ProjectionRunner\n"
        "from app.pipeline.projection.base import ProjectionInput\n"
        "from app.pipeline.projection.config import ProjectionConfig\n"
        "job = ProjectionInput(Path(sys.argv[2]) / 'vectors.npy', None, ProjectionConfig(n_epochs=1000))\n"
        "ProjectionRunner(Path(sys.argv[1])).run(job, on_progress=lambda *_: print('going', flush=True))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(cache_dir), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "going\n"
        children = psutil.Process(parent.pid).children()
        assert children
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=6)
    assert not alive
