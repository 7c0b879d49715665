"""Dataset transforms: standing rules by which a dataset goes through one or more embedders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import uuid4

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from app.errors import InvalidInputError
from app.jobs.contracts import EmbedItems, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.batch_views import Batch, BatchFilter, BatchSortBy, batch_of, batch_order, has_status
from app.services.dataset_progress import DatasetTransformStats, dataset_transform_stats
from app.services.described import TITLE_LENGTH, check_search, check_title
from app.services.paging import Page, check_window
from app.services.removal import Removal
from app.services.views import view
from app.storage.postgres.queries.embedding_progress import embedding_progress
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pages import mentions
from app.storage.postgres.queries.run_progress import current_run
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    EmbedderRow,
    ItemEmbedding,
    Job,
)

SortBy = Literal["title", "is_enabled", "created_at", "updated_at"]
_MOST_EMBEDDERS = 20


@dataclass(frozen=True, slots=True)
class DatasetTransformView:
    """A dataset transform with its embedders."""

    dataset_transform_id: int
    title: str
    source_dataset_id: int
    source_dataset_title: str
    owner_id: str
    is_enabled: bool
    job_config: dict[str, Any]
    embedder_ids: list[int]
    embedded_dataset_ids: list[int]
    created_at: datetime
    updated_at: datetime


class DatasetTransformChanges(TypedDict, total=False):
    """What may be changed; a missing key leaves the value as it is."""

    title: str
    is_enabled: bool
    embedder_ids: Sequence[int]
    job_config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DatasetTransforms:
    """Verbs on dataset transforms."""

    database: Database
    outbox: Outbox

    def list(
        self,
        principal: Principal,
        *,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
        dataset_id: int | None = None,
        sort_by: SortBy = "created_at",
        descending: bool = True,
    ) -> Page[DatasetTransformView]:
        """The owner's transforms, of one dataset where given."""
        check_window(limit, offset)
        statement = select(DatasetTransform).where(DatasetTransform.owner_id == principal.owner_id)
        if dataset_id is not None:
            statement = statement.where(DatasetTransform.source_dataset_id == dataset_id)
        if term := check_search(search):
            statement = statement.where(mentions(term, DatasetTransform.title))
        order = (
            Key(sort_by, getattr(DatasetTransform, sort_by), descending),
            Key("dataset_transform_id", DatasetTransform.dataset_transform_id),
        )
        with self.database.transaction() as session:
            if dataset_id is not None:
                owned(session, Dataset, dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(_views(session, [row for (row,) in rows]), total, limit, offset, following)

    def get(self, principal: Principal, dataset_transform_id: int) -> DatasetTransformView:
        """One transform; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            return _views(session, [row])[0]

    def create(
        self,
        principal: Principal,
        *,
        title: str,
        source_dataset_id: int,
        embedder_ids: Sequence[int],
        job_config: Mapping[str, Any] | None = None,
    ) -> DatasetTransformView:
        """Make a transform with an embedded dataset per embedder, and plan its first run.

        Raises NotFoundError, InvalidInputError.
        """
        ids = _checked_ids(embedder_ids)
        _refuse_options(job_config or {})
        row = DatasetTransform(
            owner_id=principal.owner_id,
            title=check_title(title),
            source_dataset_id=source_dataset_id,
            is_enabled=True,
            job_config={},
        )
        with self.database.transaction() as session:
            # Whoever changed items holds the dataset until it commits (Removal.replan): it sees us, or we it.
            session.execute(
                select(Dataset.dataset_id)
                .where(Dataset.dataset_id == source_dataset_id, Dataset.owner_id == principal.owner_id)
                .with_for_update()
            )
            dataset = owned(
                session, Dataset, source_dataset_id, principal.owner_id, field="source_dataset_id"
            )
            session.add(row)
            session.flush()
            for embedder_id in ids:
                _add_embedder(session, principal, row, dataset.title, embedder_id)
            self._plan(session, principal, row.dataset_transform_id)
            session.flush()
            session.refresh(row)
            return _views(session, [row])[0]

    def update(
        self, principal: Principal, dataset_transform_id: int, changes: DatasetTransformChanges
    ) -> DatasetTransformView:
        """Change it; an embedder left out of `embedder_ids` loses its embedded dataset and vectors.

        Raises NotFoundError, InvalidInputError.
        """
        _refuse_options(changes.get("job_config", {}))
        with self.database.transaction() as session:
            row = owned(session, DatasetTransform, dataset_transform_id, principal.owner_id, lock=True)
            if "title" in changes:
                row.title = check_title(changes["title"])
            row.is_enabled = changes.get("is_enabled", row.is_enabled)
            if "embedder_ids" in changes:
                self._set_embedders(session, principal, row, _checked_ids(changes["embedder_ids"]))
            if row.is_enabled:
                self._plan(session, principal, dataset_transform_id)
            session.flush()
            session.refresh(row)
            return _views(session, [row])[0]

    def delete(self, principal: Principal, dataset_transform_id: int) -> None:
        """Delete it with its embedded datasets, vector indexes and maps; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, DatasetTransform, dataset_transform_id, principal.owner_id, lock=True)
            removal = Removal(session, self.outbox, principal.owner_id)
            removal.embedded_datasets(EmbeddedDataset.dataset_transform_id == dataset_transform_id)
            session.delete(row)

    def trigger(self, principal: Principal, dataset_transform_id: int) -> None:
        """Look for items that are not done; raises NotFoundError, InvalidInputError when it is disabled."""
        with self.database.transaction() as session:
            refuse_disabled(owned(session, DatasetTransform, dataset_transform_id, principal.owner_id))
            self._plan(session, principal, dataset_transform_id)

    def retry_failed(self, principal: Principal, dataset_transform_id: int) -> int:
        """Make items that failed new again and plan them; returns how many. Raises as `trigger`."""
        with self.database.transaction() as session:
            row = owned(session, DatasetTransform, dataset_transform_id, principal.owner_id, lock=True)
            refuse_disabled(row)
            # The rows stay: they stand for vectors that the failed runs may have written.
            gone = session.scalars(
                update(ItemEmbedding)
                .where(
                    ItemEmbedding.embedded_dataset_id.in_(_embedded_ids(dataset_transform_id)),
                    ItemEmbedding.state == "failed",
                )
                # They wait for no job that there is: should the plan be lost, the sweep finds them.
                .values(state="pending", job_id=uuid4(), error_code=None, error_message=None)
                .returning(ItemEmbedding.item_id)
            ).all()
            self._plan(session, principal, dataset_transform_id)
        return len(gone)

    def stats(self, principal: Principal, dataset_transform_id: int) -> DatasetTransformStats:
        """How far it is, all together and per embedder; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            parts = embedding_progress(session, EmbeddedDataset.dataset_transform_id == dataset_transform_id)
            current = current_run(session, PlanDatasetTransform.kind, dataset_transform_id)
        return dataset_transform_stats(dataset_transform_id, parts, current)

    def batches(
        self,
        principal: Principal,
        dataset_transform_id: int,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        status: BatchFilter | None = None,
        sort_by: BatchSortBy = "created_at",
        descending: bool = True,
    ) -> Page[Batch]:
        """Its embedding jobs, newest first unless told otherwise; raises NotFoundError."""
        check_window(limit, offset)
        statement = select(Job).where(
            Job.kind == EmbedItems.kind,
            Job.scope_kind == EmbedItems.scope_kind,
            Job.scope_id.in_(_embedded_ids(dataset_transform_id)),
        )
        if status is not None:
            statement = statement.where(has_status(status))
        with self.database.transaction() as session:
            owned(session, DatasetTransform, dataset_transform_id, principal.owner_id)
            order = batch_order(sort_by, descending=descending)
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(batch_of(job) for (job,) in rows), total, limit, offset, following)

    def _set_embedders(
        self, session: Session, principal: Principal, row: DatasetTransform, wanted: Sequence[int]
    ) -> None:
        dataset = owned(session, Dataset, row.source_dataset_id, principal.owner_id)
        present = set(
            session.scalars(
                select(EmbeddedDataset.embedder_id).where(
                    EmbeddedDataset.dataset_transform_id == row.dataset_transform_id
                )
            )
        )
        dropped = (EmbeddedDataset.dataset_transform_id == row.dataset_transform_id) & (
            EmbeddedDataset.embedder_id.in_(present - set(wanted))
        )
        # They are rows of their own, but whoever edits the transform has read them as a part of it.
        row.updated_at = func.now()  # the database says when
        Removal(session, self.outbox, principal.owner_id).embedded_datasets(dropped)
        session.execute(delete(EmbeddedDataset).where(dropped))
        for embedder_id in wanted:
            if embedder_id not in present:
                _add_embedder(session, principal, row, dataset.title, embedder_id)

    def _plan(self, session: Session, principal: Principal, dataset_transform_id: int) -> None:
        self.outbox.record(session, PlanDatasetTransform(dataset_transform_id), owner_id=principal.owner_id)


def _add_embedder(
    session: Session, principal: Principal, row: DatasetTransform, dataset_title: str, embedder_id: int
) -> None:
    embedder = owned(session, EmbedderRow, embedder_id, principal.owner_id, field="embedder_ids", lock=True)
    session.add(
        EmbeddedDataset(
            owner_id=principal.owner_id,
            title=f"{dataset_title} · {embedder.name}"[:TITLE_LENGTH],
            dataset_transform_id=row.dataset_transform_id,
            source_dataset_id=row.source_dataset_id,
            embedder_id=embedder_id,
            # Never used twice: a late job of a deleted index must not meet its successor.
            collection_name=f"embedded-dataset-{uuid4().hex}",
            dimensions=embedder.dimensions,
        )
    )


def _checked_ids(embedder_ids: Sequence[int]) -> Sequence[int]:
    ids = tuple(dict.fromkeys(embedder_ids))
    if not 1 <= len(ids) <= _MOST_EMBEDDERS:
        raise InvalidInputError(
            f"embedder_ids must name 1 to {_MOST_EMBEDDERS} embedders", field="embedder_ids"
        )
    return ids


def _refuse_options(job_config: Mapping[str, Any]) -> None:
    if job_config:
        name = f"job_config.{min(job_config)}"
        raise InvalidInputError(f"{name}: there is no such option", field=name)


def refuse_disabled(row: DatasetTransform) -> None:
    """Raise InvalidInputError for a transform that plans nothing."""
    if not row.is_enabled:
        raise InvalidInputError("the transform is disabled: enable it first", field="is_enabled")


def _embedded_ids(dataset_transform_id: int) -> Select[tuple[int]]:
    return select(EmbeddedDataset.embedded_dataset_id).where(
        EmbeddedDataset.dataset_transform_id == dataset_transform_id
    )


def _views(session: Session, rows: Sequence[DatasetTransform]) -> tuple[DatasetTransformView, ...]:
    ids = [row.dataset_transform_id for row in rows]
    titles = dict(
        session.execute(
            select(Dataset.dataset_id, Dataset.title).where(
                Dataset.dataset_id.in_([row.source_dataset_id for row in rows])
            )
        )
        .tuples()
        .all()
    )
    embedded: dict[int, list[tuple[int, int]]] = {key: [] for key in ids}
    for key, embedder_id, embedded_dataset_id in session.execute(
        select(
            EmbeddedDataset.dataset_transform_id,
            EmbeddedDataset.embedder_id,
            EmbeddedDataset.embedded_dataset_id,
        )
        .where(EmbeddedDataset.dataset_transform_id.in_(ids))
        .order_by(EmbeddedDataset.embedded_dataset_id)
    ):
        embedded[key].append((embedder_id, embedded_dataset_id))
    return tuple(
        view(
            DatasetTransformView,
            row,
            source_dataset_title=titles[row.source_dataset_id],
            embedder_ids=[pair[0] for pair in embedded[row.dataset_transform_id]],
            embedded_dataset_ids=[pair[1] for pair in embedded[row.dataset_transform_id]],
        )
        for row in rows
    )
