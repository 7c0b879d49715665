"""What goes into a map and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.vectors import Float32

Stage = Literal["checking", "neighbours", "layout", "clusters", "names", "quality"]

UNASSIGNED = -1


@dataclass(frozen=True, slots=True)
class ProjectionInput:
    """One map to make.

    vectors_path: `.npy` file, float32 (n, d), as `vectors.write_vectors` writes it.
    texts_path: n JSON strings, one per line, as `vectors.write_texts` writes them; row i is vector i.
        None: topics are numbered instead of named.
    """

    vectors_path: Path
    texts_path: Path | None
    config: ProjectionConfig = field(default_factory=ProjectionConfig)


@dataclass(frozen=True, slots=True)
class Topic:
    """A group of points. `id` is also its label and its rank by size: 0 is the largest.

    x, y: where its label belongs. zoom: the first of the zoom levels 0, 1, 2, … (each twice as close) at
    which its label covers no larger topic's label. exemplar_rows: its most central points, best first.
    """

    id: int
    name: str
    keywords: tuple[str, ...]
    size: int
    x: float
    y: float
    zoom: int
    exemplar_rows: tuple[int, ...]
    name_source: Literal["keywords", "number", "language_model"] = "keywords"


@dataclass(frozen=True)
class Projection:
    """A finished map of n points.

    points: float32 (n, 2), the longer side filling [-1, 1], proportions kept.
    labels: int32 (n), the topic of each point or -1.
    probabilities: float32 (n) in 0..1, how surely a point belongs to its topic; 0 where unassigned.
    nearest_topic: int32 (n), labels, and for unassigned points the topic that most neighbours have; -1 only
        where there is no topic at all.
    quality: see `quality.measure`, and `unassigned_share`.
    notes: sentences for the reader of the map.
    """

    points: Float32
    labels: NDArray[np.int32]
    probabilities: Float32
    nearest_topic: NDArray[np.int32]
    topics: tuple[Topic, ...]
    quality: dict[str, float]
    timings_seconds: dict[str, float]
    notes: tuple[str, ...] = ()
