"""Visualization transforms: standing rules by which an embedded dataset becomes a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import uuid4

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from app.errors import ConflictError, InvalidInputError
from app.jobs.contracts import BuildVisualization
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import check_search, check_title
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import view
from app.services.visualizations import UNDER_WAY, VisualizationView, visualization_view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.map_progress import runs_progress
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pace import Progress
from app.storage.postgres.queries.pages import mentions
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbeddedDataset, LlmRow, Visualization, VisualizationTransform

SortBy = Literal["title", "is_enabled", "created_at", "updated_at", "last_run_status"]


@dataclass(frozen=True, slots=True)
class VisualizationTransformView:
    """A visualization transform with its newest run, which was asked for at `last_run_at`."""

    visualization_transform_id: int
    title: str
    embedded_dataset_id: int
    embedded_dataset_title: str
    owner_id: str
    is_enabled: bool
    visualization_config: dict[str, Any]
    last_run_status: str | None
    last_run_at: datetime | None
    last_run_stats: dict[str, Any] | None
    last_error: str | None
    last_visualization_id: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VisualizationTransformStats:
    """Counted from its runs."""

    visualization_transform_id: int
    latest_visualization: VisualizationView | None
    total_runs: int
    successful_runs: int
    failed_runs: int
    active_runs: int
    progress: Progress  # in maps; the one in the making counts with the share that is done


class VisualizationTransformChanges(TypedDict, total=False):
    """What may be changed; a missing key leaves the value as it is."""

    title: str
    is_enabled: bool
    visualization_config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VisualizationTransforms:
    """Verbs on visualization transforms. `check_config` completes a configuration or refuses it."""

    database: Database
    outbox: Outbox
    check_config: Callable[[Mapping[str, Any]], Mapping[str, Any]]

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
        embedded_dataset_id: int | None = None,
        sort_by: SortBy = "created_at",
        descending: bool = True,
    ) -> Page[VisualizationTransformView]:
        """The owner's transforms, of one embedded dataset where given."""
        check_window(limit, offset)
        statement = _joined().where(VisualizationTransform.owner_id == principal.owner_id)
        if embedded_dataset_id is not None:
            statement = statement.where(VisualizationTransform.embedded_dataset_id == embedded_dataset_id)
        if term := check_search(search):
            statement = statement.where(mentions(term, VisualizationTransform.title))
        order = (
            _key(sort_by, descending=descending),
            Key("visualization_transform_id", VisualizationTransform.visualization_transform_id),
        )
        with self.database.transaction() as session:
            if embedded_dataset_id is not None:
                owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(_views(session, rows), total, limit, offset, following)

    def get(self, principal: Principal, visualization_transform_id: int) -> VisualizationTransformView:
        """One transform; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, VisualizationTransform, visualization_transform_id, principal.owner_id)
            which = VisualizationTransform.visualization_transform_id == visualization_transform_id
            return _views(session, session.execute(_joined().where(which)).tuples().all())[0]

    def create(
        self,
        principal: Principal,
        *,
        title: str,
        embedded_dataset_id: int,
        config: Mapping[str, Any] | None = None,
    ) -> VisualizationTransformView:
        """Make a transform and start its first run; raises NotFoundError, InvalidInputError."""
        row = VisualizationTransform(
            owner_id=principal.owner_id,
            title=check_title(title),
            embedded_dataset_id=embedded_dataset_id,
            is_enabled=True,
            visualization_config=dict(self.check_config(config or {})),
        )
        with self.database.transaction() as session:
            owned(
                session,
                EmbeddedDataset,
                embedded_dataset_id,
                principal.owner_id,
                field="embedded_dataset_id",
            )
            _check_llm(session, row)
            session.add(row)
            session.flush()
            self._start(session, principal, row)
            key = row.visualization_transform_id
        return self.get(principal, key)

    def update(
        self, principal: Principal, visualization_transform_id: int, changes: VisualizationTransformChanges
    ) -> VisualizationTransformView:
        """Change it; the next run uses the new configuration. Raises NotFoundError, InvalidInputError."""
        with self.database.transaction() as session:
            row = owned(
                session, VisualizationTransform, visualization_transform_id, principal.owner_id, lock=True
            )
            if "title" in changes:
                row.title = check_title(changes["title"])
            row.is_enabled = changes.get("is_enabled", row.is_enabled)
            if "visualization_config" in changes:
                row.visualization_config = dict(self.check_config(changes["visualization_config"]))
                _check_llm(session, row)
        return self.get(principal, visualization_transform_id)

    def delete(self, principal: Principal, visualization_transform_id: int) -> None:
        """Delete it with its maps; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(
                session, VisualizationTransform, visualization_transform_id, principal.owner_id, lock=True
            )
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.visualization_transforms(
                VisualizationTransform.visualization_transform_id == visualization_transform_id
            )
            session.delete(row)

    def trigger(self, principal: Principal, visualization_transform_id: int) -> VisualizationView:
        """Start another run.

        Raises NotFoundError, InvalidInputError when it is disabled, ConflictError while a run is active.
        """
        with self.database.transaction() as session:
            row = owned(
                session, VisualizationTransform, visualization_transform_id, principal.owner_id, lock=True
            )
            if not row.is_enabled:
                raise InvalidInputError("the transform is disabled: enable it first", field="is_enabled")
            active = session.scalar(
                select(Visualization.visualization_id).where(
                    Visualization.visualization_transform_id == visualization_transform_id,
                    Visualization.status.in_(UNDER_WAY),
                )
            )
            if active is not None:
                raise ConflictError(f"visualization {active} of this transform is being built")
            return self._start(session, principal, row)

    def stats(self, principal: Principal, visualization_transform_id: int) -> VisualizationTransformStats:
        """How its runs went; raises NotFoundError."""
        runs = Visualization.visualization_transform_id == visualization_transform_id
        with self.database.transaction() as session:
            owned(session, VisualizationTransform, visualization_transform_id, principal.owner_id)
            counts = dict(
                session.execute(
                    select(Visualization.status, func.count()).where(runs).group_by(Visualization.status)
                )
                .tuples()
                .all()
            )
            latest = session.scalars(
                select(Visualization).where(runs).order_by(Visualization.visualization_id.desc()).limit(1)
            ).one_or_none()
            return VisualizationTransformStats(
                visualization_transform_id=visualization_transform_id,
                latest_visualization=visualization_view(latest) if latest else None,
                total_runs=sum(counts.values()),
                successful_runs=counts.get("completed", 0),
                failed_runs=counts.get("failed", 0),
                active_runs=sum(counts.get(status, 0) for status in UNDER_WAY),
                progress=runs_progress(session, visualization_transform_id),
            )

    def _start(
        self, session: Session, principal: Principal, row: VisualizationTransform
    ) -> VisualizationView:
        run = Visualization(
            owner_id=principal.owner_id,
            visualization_transform_id=row.visualization_transform_id,
            status="pending",
            job_id=uuid4(),  # replaced below: the job names the run, so the run comes first
        )
        session.add(run)
        session.flush()
        contract = BuildVisualization(run.visualization_id, row.visualization_transform_id)
        run.job_id = self.outbox.record(session, contract, owner_id=principal.owner_id)
        session.flush()
        session.refresh(run)
        return visualization_view(run)


def _check_llm(session: Session, row: VisualizationTransform) -> None:
    """The LLM must be the owner's; locked, lest it is deleted before the row that names it is there."""
    llm_id = row.visualization_config.get("llm_id")
    if llm_id is not None:
        owned(session, LlmRow, llm_id, row.owner_id, lock=True, field="visualization_config.llm_id")


def _joined() -> Select[tuple[VisualizationTransform, str]]:
    return select(VisualizationTransform, EmbeddedDataset.title).join(
        EmbeddedDataset, EmbeddedDataset.embedded_dataset_id == VisualizationTransform.embedded_dataset_id
    )


def _key(sort_by: SortBy, *, descending: bool) -> Key:
    if sort_by != "last_run_status":
        return Key(sort_by, getattr(VisualizationTransform, sort_by), descending)
    newest = (
        select(Visualization.status)
        .where(Visualization.visualization_transform_id == VisualizationTransform.visualization_transform_id)
        .order_by(Visualization.visualization_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return Key(sort_by, newest, descending, nullable=True)


def _views(
    session: Session, rows: Sequence[tuple[VisualizationTransform, str]]
) -> tuple[VisualizationTransformView, ...]:
    ids = [row.visualization_transform_id for row, _ in rows]
    latest = {
        run.visualization_transform_id: run
        for run in session.scalars(
            select(Visualization)
            .where(Visualization.visualization_transform_id.in_(ids))
            .distinct(Visualization.visualization_transform_id)
            .order_by(Visualization.visualization_transform_id, Visualization.visualization_id.desc())
        )
    }
    return tuple(_view(row, title, latest.get(row.visualization_transform_id)) for row, title in rows)


def _view(
    row: VisualizationTransform, embedded_dataset_title: str, run: Visualization | None
) -> VisualizationTransformView:
    return view(
        VisualizationTransformView,
        row,
        embedded_dataset_title=embedded_dataset_title,
        last_run_status=run.status if run else None,
        last_run_at=run.created_at if run else None,
        last_run_stats=run.stats_json if run else None,
        last_error=run.error_message if run else None,
        last_visualization_id=run.visualization_id if run else None,
    )
