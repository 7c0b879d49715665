"""Runs of the visualizations pool: the vectors of an embedded dataset become a map."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, insert, select, update

from app.errors import ExplorerError, InvalidInputError, NotFoundError, UnavailableError
from app.events.ports import StatusPublisher
from app.jobs.contracts import BuildVisualization, DeleteObjects
from app.jobs.outbox import Outbox
from app.observability import metrics
from app.pipeline.projection import arrow, vectors
from app.pipeline.projection.base import Projection, ProjectionInput
from app.pipeline.projection.config import ProjectionConfig
from app.pipeline.projection.naming import Namer
from app.pipeline.projection.runner import ProjectionRunner
from app.services.jobs import Jobs, Run
from app.services.status import Subject, tell
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    ChunkRow,
    EmbeddedDataset,
    Item,
    Visualization,
    VisualizationCluster,
    VisualizationTransform,
)
from app.storage.qdrant import VectorStore
from app.storage.s3 import BlobStore

_log = logging.getLogger(__name__)

_REPORT_EVERY_SECONDS = 0.5
_TEXTS_PER_QUERY = 2000
_FETCH_SHARE = 0.1  # of the progress bar: fetching vectors is about a tenth of a map's time


@dataclass(frozen=True, slots=True)
class _Work:
    visualization_id: int
    transform_id: int
    embedded_dataset_id: int
    owner_id: str
    index: str
    config: ProjectionConfig

    @property
    def subject(self) -> Subject:
        return Subject("visualization", self.transform_id, self.embedded_dataset_id, self.owner_id)


@dataclass(slots=True)
class _Rows:
    """What the i-th vector is: collected while the vectors stream by."""

    chunk_ids: list[UUID] = field(default_factory=list)
    item_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VisualizationRuns:
    """Verbs of the visualization jobs. `namer` takes an owner, an LLM of theirs and their wishes."""

    database: Database
    outbox: Outbox
    jobs: Jobs
    status: StatusPublisher
    vectors: VectorStore
    blobs: BlobStore
    runner: Callable[[], ProjectionRunner]
    namer: Callable[[str, int, str | None], Namer]
    max_points: int
    scratch_dir: Path | None = None

    def build(self, run: Run, contract: BuildVisualization) -> None:
        """Compute one map and store its points (object), topics (rows) and quality figures.

        Raises InvalidInputError when there is nothing to map or too much, and the errors of
        ProjectionRunner.run and of the stores.
        """
        started = time.monotonic()
        work = self._load(run, contract)
        if work is None:
            return
        report = _Reporter(self, run, work)
        with tempfile.TemporaryDirectory(prefix="map-", dir=self.scratch_dir) as folder:
            scratch = Path(folder)
            rows = self._fetch(work, scratch, report)
            report("naming texts", _FETCH_SHARE, force=True)
            self._write_texts(work, rows, scratch / "texts.jsonl")
            with metrics.stage("projection"):
                projection = self.runner().run(
                    ProjectionInput(
                        vectors_path=scratch / "vectors.npy",
                        texts_path=scratch / "texts.jsonl",
                        config=work.config,
                    ),
                    on_progress=lambda stage, share: report(
                        stage, _FETCH_SHARE + (0.98 - _FETCH_SHARE) * share
                    ),
                    should_cancel=lambda: self._is_over(run),
                    namer=self._namer(work),
                )
            arrow.write_points(scratch / "points.arrow", projection, rows.chunk_ids, rows.item_ids)
            key = f"visualizations/{work.visualization_id}/{uuid4()}.arrow"
            self.blobs.put_file(key, scratch / "points.arrow", media_type="application/vnd.apache.arrow.file")
        try:
            self._store(run, work, projection, rows, key, time.monotonic() - started)
        except BaseException:
            self._discard(run, key)
            raise
        tell(
            self.status, work.subject, "success", job_id=run.job_id, progress=1.0, points=len(rows.chunk_ids)
        )

    def _load(self, run: Run, contract: BuildVisualization) -> _Work | None:
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            visualization = session.get(Visualization, contract.visualization_id)
            if visualization is None:
                self.jobs.finish(session, run, outcome={"skipped": "the map was deleted"})
                return None
            if visualization.visualization_transform_id != contract.visualization_transform_id:
                self.jobs.finish(session, run, outcome={"skipped": "the map is another transform's"})
                return None
            transform = session.get_one(VisualizationTransform, visualization.visualization_transform_id)
            source = session.get_one(EmbeddedDataset, transform.embedded_dataset_id)
            visualization.status, visualization.job_id = "processing", run.job_id
            visualization.started_at, visualization.error_message = func.now(), None
            return _Work(
                visualization_id=visualization.visualization_id,
                transform_id=transform.visualization_transform_id,
                embedded_dataset_id=source.embedded_dataset_id,
                owner_id=transform.owner_id,
                index=source.collection_name,
                config=ProjectionConfig.model_validate(transform.visualization_config),
            )

    def _namer(self, work: _Work) -> Namer | None:
        config = work.config
        if config.llm_id is None:
            return None
        return self.namer(work.owner_id, config.llm_id, config.topic_naming_prompt)

    def _fetch(self, work: _Work, scratch: Path, report: _Reporter) -> _Rows:
        try:
            total = self.vectors.count(work.index)
        except NotFoundError:  # the index is made with its first vectors
            total = 0
        if total == 0:
            raise InvalidInputError("there is nothing to map: the embedded dataset holds no vectors yet")
        if total > self.max_points:
            raise InvalidInputError(
                f"the embedded dataset holds {total:,} vectors; "
                f"MAX_VISUALIZATION_POINTS allows {self.max_points:,}"
            )
        rows = _Rows()

        def batches() -> Iterator[NDArray[np.float32]]:
            for ids, block, payloads in self.vectors.stream_vectors(work.index):
                rows.chunk_ids.extend(ids)
                rows.item_ids.extend(int(payload["item_id"]) for payload in payloads)
                report("fetching vectors", _FETCH_SHARE * len(rows.chunk_ids) / total)
                yield block

        vectors.write_vectors(batches(), scratch / "vectors.npy")
        return rows

    def _is_over(self, run: Run) -> bool:
        try:
            return not self.jobs.is_current(run)
        except UnavailableError:  # the fence will tell; a minute of work is not thrown away for a question
            return False

    def _discard(self, run: Run, key: str) -> None:
        """The object goes unless a row names it: a commit may have happened although it seemed to fail."""
        try:
            with self.database.transaction() as session:
                self.outbox.record(session, DeleteObjects((key,)), owner_id=run.owner_id)
        except ExplorerError as error:
            _log.warning("object %s of a map that was not stored stays behind: %s", key, error)

    def _write_texts(self, work: _Work, rows: _Rows, path: Path) -> None:
        """One passage per line, in the order of the vectors; empty where the chunk is gone by now."""
        vectors.write_texts(self._texts(work, rows.chunk_ids), path)

    def _texts(self, work: _Work, chunk_ids: list[UUID]) -> Iterator[str]:
        """Of the owner's passages only: who pushes vectors chooses their ids, and might choose another's."""
        for start in range(0, len(chunk_ids), _TEXTS_PER_QUERY):
            wanted = chunk_ids[start : start + _TEXTS_PER_QUERY]
            statement = (
                select(ChunkRow.chunk_id, ChunkRow.text)
                .join(Item, Item.item_id == ChunkRow.item_id)
                .where(ChunkRow.chunk_id.in_(wanted), Item.owner_id == work.owner_id)
            )
            with self.database.transaction() as session:
                found = dict(session.execute(statement).tuples().all())
            if pushed := [chunk_id for chunk_id in wanted if chunk_id not in found]:
                payloads = self.vectors.payloads(work.index, pushed)
                found |= {key: str(payload.get("text") or "") for key, payload in payloads.items()}
            yield from (found.get(chunk_id, "") for chunk_id in wanted)

    def _store(
        self, run: Run, work: _Work, projection: Projection, rows: _Rows, key: str, seconds: float
    ) -> None:
        topics = [
            {
                "visualization_id": work.visualization_id,
                "cluster_id": topic.id,
                "name": topic.name,
                "keywords": list(topic.keywords),
                "size": topic.size,
                "x": topic.x,
                "y": topic.y,
                "zoom": topic.zoom,
                "name_source": topic.name_source,
                "exemplar_chunk_ids": [rows.chunk_ids[row] for row in topic.exemplar_rows],
            }
            for topic in projection.topics
        ]
        with self.database.transaction() as session:
            self.jobs.fence(session, run)
            stored = session.execute(
                update(Visualization)
                .where(Visualization.visualization_id == work.visualization_id)
                .values(
                    status="completed",
                    stage=None,
                    progress=1.0,
                    completed_at=func.now(),
                    points_key=key,
                    point_count=len(rows.chunk_ids),
                    cluster_count=len(topics),
                    noise_count=int((projection.labels < 0).sum()),
                    quality=projection.quality,
                    stats_json={
                        "timings_seconds": projection.timings_seconds,
                        "duration_seconds": round(seconds, 3),
                        "notes": list(projection.notes),
                    },
                )
                .returning(Visualization.visualization_id)
            ).one_or_none()
            if stored is None:  # deleted while it was computed
                self.outbox.record(session, DeleteObjects((key,)), owner_id=run.owner_id)
            elif topics:
                session.execute(insert(VisualizationCluster), topics)
            self.jobs.finish(session, run, outcome={"points": len(rows.chunk_ids), "topics": len(topics)})


class _Reporter:
    """Writes a run's stage and share done, at most twice a second; best effort while Postgres is away."""

    def __init__(self, runs: VisualizationRuns, run: Run, work: _Work) -> None:
        self._runs, self._run, self._work = runs, run, work
        self._last = 0.0

    def __call__(self, stage: str, share: float, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last < _REPORT_EVERY_SECONDS:
            return
        self._last = now
        values: dict[str, Any] = {"stage": stage, "progress": round(min(share, 1.0), 4)}
        try:
            with self._runs.database.transaction() as session:
                self._runs.jobs.fence(session, self._run)
                session.execute(
                    update(Visualization)
                    .where(Visualization.visualization_id == self._work.visualization_id)
                    .values(**values)
                )
        except UnavailableError as error:
            _log.warning("progress was not written down: %s", error)
        tell(self._runs.status, self._work.subject, "processing", job_id=self._run.job_id, **values)
