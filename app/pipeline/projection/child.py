"""The child's side of the runner: keeps umap loaded between maps, passes results through one file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from app.pipeline.projection.base import Projection, ProjectionInput, Stage, Topic
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.layout import load_umap
from app.pipeline.projection.project import project
from app.pipeline.projection.vectors import write_texts, write_vectors

_WARM_POINTS = 200
_REPORT_SECONDS = 0.2

_umap = lru_cache(maxsize=1)(load_umap)


def warm(cache_dir: str) -> float:
    """Load (the first time on a machine: compile) everything that a map needs, by making a small one."""
    started = time.perf_counter()
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(4, 32)), _WARM_POINTS // 4, axis=0)
    vectors = (centres + 0.3 * random.normal(size=centres.shape)).astype(np.float32)
    with TemporaryDirectory() as folder:
        vectors_path, texts_path = Path(folder) / "vectors.npy", Path(folder) / "texts.jsonl"
        write_vectors([vectors], vectors_path)
        write_texts([f"warm text {i % 4}" for i in range(_WARM_POINTS)], texts_path)
        job = ProjectionInput(vectors_path, texts_path, ProjectionConfig(n_epochs=20))
        project(job, _umap(Path(cache_dir)), work_dir=Path(folder), threads=2, on_progress=lambda *_: None)
    return time.perf_counter() - started


def run(
    cache_dir: str,
    vectors_path: str,
    texts_path: str | None,
    config: dict[str, Any],
    work_dir: str,
    on_progress: Callable[[Any], None],
) -> dict[str, Any]:
    """Make the map, save its arrays to `work_dir`/result.npz and return the rest as JSON values."""
    started = time.perf_counter()
    umap = _umap(Path(cache_dir))
    loading_seconds = time.perf_counter() - started
    job = ProjectionInput(
        Path(vectors_path), Path(texts_path) if texts_path else None, ProjectionConfig(**config)
    )
    result = project(
        job,
        umap,
        work_dir=Path(work_dir),
        threads=available_cores(),
        on_progress=_Throttled(on_progress),
    )
    result.timings_seconds["loading"] = loading_seconds
    return save(result, Path(work_dir) / "result.npz")


class _Throttled:
    """Passes progress on a few times a second, and every change of stage."""

    def __init__(self, on_progress: Callable[[Any], None]) -> None:
        self._on_progress = on_progress
        self._stage: Stage | None = None
        self._sent_at = 0.0

    def __call__(self, stage: Stage, share: float) -> None:
        now = time.monotonic()
        if stage != self._stage or now - self._sent_at >= _REPORT_SECONDS:
            self._stage, self._sent_at = stage, now
            self._on_progress([stage, share])


def available_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def save(result: Projection, path: Path) -> dict[str, Any]:
    """Arrays to an `.npz`, everything else as JSON values."""
    np.savez(
        path,
        points=result.points,
        labels=result.labels,
        probabilities=result.probabilities,
        nearest_topic=result.nearest_topic,
    )
    return {
        "topics": [asdict(topic) for topic in result.topics],
        "quality": result.quality,
        "timings_seconds": result.timings_seconds,
        "notes": list(result.notes),
    }


def load(rest: dict[str, Any], path: Path) -> Projection:
    """The inverse of `save`."""
    with np.load(path, allow_pickle=False) as arrays:
        return Projection(
            points=arrays["points"],
            labels=arrays["labels"],
            probabilities=arrays["probabilities"],
            nearest_topic=arrays["nearest_topic"],
            topics=tuple(_topic(topic) for topic in rest["topics"]),
            quality=rest["quality"],
            timings_seconds=rest["timings_seconds"],
            notes=tuple(rest["notes"]),
        )


def _topic(values: dict[str, Any]) -> Topic:
    lists = {"keywords": tuple(values["keywords"]), "exemplar_rows": tuple(values["exemplar_rows"])}
    return Topic(**(values | lists))


def describe_config(config: ProjectionConfig) -> dict[str, Any]:
    """The configuration as JSON values that `run` takes."""
    values: dict[str, Any] = json.loads(config.model_dump_json())
    return values
