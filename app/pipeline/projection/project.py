"""The whole way from vectors to a map, in this process. The runner calls it in a child that can be killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from app.errors import InvalidInputError
from app.pipeline.projection import keywords, placing, quality
from app.pipeline.projection.base import UNASSIGNED, Projection, ProjectionInput, Stage, Topic
from app.pipeline.projection.clustering import Clusters, cluster, one_cluster
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.layout import fuzzy_graph, lay_out
from app.pipeline.projection.neighbours import NeighbourGraph, build_graph, prepare_rows
from app.pipeline.projection.principal import principal_coordinates
from app.pipeline.projection.vectors import Float32, blocks, open_vectors

REDUCED_DIMENSIONS = 10

# Fewer points than this have no shape to lay out: their principal coordinates are the map.
_FEWEST_FOR_LAYOUT = 5
# Below this spread float32 rounding is all that is left of a difference.
_EQUAL = 1e-5
# Share of the whole time that stages take, about, on 20,000 points.
_SHARES: dict[Stage, float] = {
    "checking": 0.02,
    "neighbours": 0.13,
    "layout": 0.65,
    "clusters": 0.08,
    "names": 0.05,
    "quality": 0.07,
}

OnProgress = Callable[[Stage, float], None]


@dataclass
class _Progress:
    """Turns the progress of stages, two of which may run at once, into a share of the whole."""

    on_progress: OnProgress
    timings: dict[str, float] = field(default_factory=dict)
    _done: dict[tuple[Stage, str], float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def report(self, stage: Stage, share: float, *, part: str = "", parts: int = 1) -> None:
        with self._lock:
            self._done[stage, part] = _SHARES[stage] / parts * min(1.0, share)
            self.on_progress(stage, min(1.0, sum(self._done.values())))

    @contextmanager
    def stage(self, stage: Stage, *, part: str = "", parts: int = 1) -> Iterator[None]:
        started = time.perf_counter()
        self.report(stage, 0.0, part=part, parts=parts)
        yield
        self.report(stage, 1.0, part=part, parts=parts)
        self.timings[part or stage] = time.perf_counter() - started


def project(
    job: ProjectionInput, umap: Any, *, work_dir: Path, threads: int, on_progress: OnProgress
) -> Projection:
    """Make the map. `umap` is the module that `layout.load_umap` returns; `work_dir` takes large files.

    `on_progress(stage, share)` gets the share of the whole in 0..1, never falling; several threads call it,
    one at a time. The same input gives the same map on the same machine.

    Raises InvalidInputError: there are no vectors, a value is not finite, or texts do not match.
    """
    started = time.perf_counter()
    progress = _Progress(on_progress)
    with progress.stage("checking"):
        vectors = _checked_vectors(job)
        rows = prepare_rows(vectors, job.config.metric, work_dir / "rows.npy")
    config = job.config
    with progress.stage("neighbours"):
        graph = build_graph(
            rows,
            config.n_neighbors,
            config.metric,
            seed=config.seed,
            threads=threads,
            report=lambda share: progress.report("neighbours", share),
        )
    with ThreadPoolExecutor(2) as pool:
        # The picture with its quality figures and the topics with their names do not need each other.
        layout = _Layout(umap, rows, graph, config, progress)
        picture = pool.submit(_picture, layout)
        topics = pool.submit(_topics, layout, job)
        points, figures = picture.result()
        reduced, clusters, words = topics.result()
    figures["unassigned_share"] = float((clusters.labels == UNASSIGNED).mean())
    progress.timings["total"] = time.perf_counter() - started
    return Projection(
        points=points,
        labels=clusters.labels,
        probabilities=clusters.probabilities,
        nearest_topic=clusters.nearest,
        topics=_described(points, reduced, clusters, words, config),
        quality=figures,
        timings_seconds=progress.timings,
        notes=_notes(len(points), clusters, figures),
    )


def epochs_for(config: ProjectionConfig, points: int) -> int:
    """Rounds of optimisation of the picture; fewer for large corpora, where each gains less."""
    if config.n_epochs is not None:
        return config.n_epochs
    return max(100, min(200, round(200 * math.pow(50_000 / points, 0.4))))


def _checked_vectors(job: ProjectionInput) -> Float32:
    vectors = open_vectors(job.vectors_path)
    if 0 in vectors.shape:
        raise InvalidInputError("There is nothing to map: the embedded dataset holds no vectors")
    for start, block in blocks(vectors):
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise InvalidInputError(f"vectors: row {row} holds a value that is not a finite number")
    return vectors


class _Layout:
    """The two layouts of one graph from one PCA."""

    def __init__(
        self, umap: Any, rows: Float32, graph: NeighbourGraph, config: ProjectionConfig, progress: _Progress
    ) -> None:
        self.rows = rows
        self.graph = graph
        self.config = config
        self.progress = progress
        self._umap = umap
        self._start = principal_coordinates(rows, max(2, min(REDUCED_DIMENSIONS, rows.shape[1])))
        self._matrix = fuzzy_graph(umap, graph, config.metric) if self._has_shape else None

    @property
    def _has_shape(self) -> bool:
        return len(self.rows) >= _FEWEST_FOR_LAYOUT

    @property
    def all_equal(self) -> bool:
        """Every vector is the same: any group that a layout shows would be noise."""
        return bool(np.ptp(self._start, axis=0).max() < _EQUAL)

    def positions(self, dimensions: int, min_dist: float, epochs: int, part: str) -> Float32:
        """(n, at most `dimensions`) after UMAP's optimisation."""
        start = np.ascontiguousarray(self._start[:, :dimensions])
        if not self._has_shape:
            return start
        with self.progress.stage("layout", part=part, parts=2):
            return lay_out(
                self._umap,
                self._matrix,
                start,
                min_dist=min_dist,
                epochs=epochs,
                seed=self.config.seed,
                report=lambda share: self.progress.report("layout", share, part=part, parts=2),
            )


def _picture(layout: _Layout) -> tuple[Float32, dict[str, float]]:
    """(points (n, 2), quality figures)."""
    config = layout.config
    epochs = epochs_for(config, len(layout.rows))
    points = placing.fit_square(layout.positions(2, config.min_dist, epochs, "layout_2d"))
    with layout.progress.stage("quality"):
        figures = quality.measure(layout.rows, layout.graph, points, config.metric, seed=config.seed)
    return points, figures


def _topics(layout: _Layout, job: ProjectionInput) -> tuple[Float32, Clusters, list[tuple[str, ...]]]:
    """(reduced points (n, c), their clusters, keywords of each topic)."""
    # Half the rounds: topics settle earlier than the picture, and a round in 10-D costs twice as much.
    epochs = max(20, epochs_for(layout.config, len(layout.rows)) // 2)
    reduced = layout.positions(REDUCED_DIMENSIONS, 0.0, epochs, "layout_10d")
    with layout.progress.stage("clusters"):
        if layout.all_equal and len(reduced) >= _FEWEST_FOR_LAYOUT:
            clusters = one_cluster(reduced)
        else:
            clusters = cluster(reduced, layout.graph, layout.config)
    with layout.progress.stage("names"):
        words: list[tuple[str, ...]] = [()] * clusters.count
        if job.texts_path is not None:
            words = keywords.topic_keywords(job.texts_path, clusters.labels, clusters.count)
    return reduced, clusters, words


def _described(
    points: Float32,
    reduced: Float32,
    clusters: Clusters,
    words: list[tuple[str, ...]],
    config: ProjectionConfig,
) -> tuple[Topic, ...]:
    places = placing.label_places(points, clusters.labels, clusters.count)
    zooms = placing.label_zooms(places)
    names = keywords.unique_names(words)
    rows = placing.members(clusters.labels, clusters.count)
    return tuple(
        Topic(
            id=number,
            name=names[number],
            keywords=words[number][: config.keywords_per_topic],
            size=len(rows[number]),
            x=float(places[number, 0]),
            y=float(places[number, 1]),
            zoom=zooms[number],
            exemplar_rows=placing.exemplars(
                reduced, clusters.centres[number], rows[number], config.samples_per_cluster
            ),
            name_source="keywords" if words[number] else "number",
        )
        for number in range(clusters.count)
    )


def _notes(points: int, clusters: Clusters, figures: dict[str, float]) -> tuple[str, ...]:
    notes = []
    if points < _FEWEST_FOR_LAYOUT:
        notes.append(f"With so few passages ({points}) the places on the map carry little meaning.")
    if not clusters.count:
        notes.append("No topics were found: the passages form no dense groups.")
    elif figures["unassigned_share"] > 0.5:  # noqa: PLR2004 - more than half
        share = round(100 * figures["unassigned_share"])
        notes.append(f"{share} % of the passages belong to no topic; a smaller min_cluster_size may help.")
    return tuple(notes)
