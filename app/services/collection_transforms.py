"""Collection transforms: standing rules by which the files of a collection become items of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from sqlalchemy import Row, Select, and_, delete, func, select
from sqlalchemy.orm import Session

from app.errors import InvalidInputError, JobCancelledError
from app.ids import config_hash
from app.jobs.contracts import PlanCollectionTransform
from app.jobs.outbox import Outbox
from app.security.principal import Principal
from app.services.described import check_search, check_title
from app.services.paging import Page, check_window
from app.services.processed_files import LAST_FIRST, FileStatus, ProcessedFile, has_status, processed
from app.services.removal import Removal
from app.services.views import view
from app.storage.postgres.queries.keyset import Key, keyed_page
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.queries.pace import Progress, pace, progress, rate_of
from app.storage.postgres.queries.pages import mentions
from app.storage.postgres.queries.run_progress import current_run
from app.storage.postgres.session import Database
from app.storage.postgres.tables import (
    Collection,
    CollectionTransform,
    Dataset,
    File,
    FileExtraction,
    Job,
)

SortBy = Literal["title", "is_enabled", "created_at", "updated_at", "chunk_size"]

# Checks one part of `job_config` and returns it complete; raises InvalidInputError with field and rule.
CheckConfig = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class CollectionTransformView:
    """A collection transform with the names of what it joins."""

    collection_transform_id: int
    title: str
    collection_id: int
    collection_title: str
    dataset_id: int
    dataset_title: str
    owner_id: str
    is_enabled: bool
    chunk_size: int
    job_config: dict[str, Any]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class CollectionTransformStats:
    """Counted from the rows of what was done, never from counters."""

    collection_transform_id: int
    total_files: int
    total_files_processed: int
    successful_files: int
    failed_files: int
    pending_files: int
    total_items_created: int
    total_chunks_created: int
    avg_processing_duration_ms: float | None
    last_run_at: datetime | None
    current_run_id: UUID | None  # the newest that has not ended
    current_run_started_at: datetime | None
    progress: Progress  # in files


class CollectionTransformChanges(TypedDict, total=False):
    """What may be changed; a missing key leaves the value as it is."""

    title: str
    is_enabled: bool
    chunk_size: int
    job_config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CollectionTransforms:
    """Verbs on collection transforms."""

    database: Database
    outbox: Outbox
    check_extraction: CheckConfig
    check_chunking: CheckConfig

    def list(  # noqa: PLR0913 - what a query can say
        self,
        principal: Principal,
        *,
        limit: int = 10,
        offset: int = 0,
        cursor: str | None = None,
        search: str | None = None,
        collection_id: int | None = None,
        dataset_id: int | None = None,
        sort_by: SortBy = "created_at",
        descending: bool = True,
    ) -> Page[CollectionTransformView]:
        """The owner's transforms, of one collection or dataset where given."""
        check_window(limit, offset)
        statement = _joined().where(CollectionTransform.owner_id == principal.owner_id)
        if collection_id is not None:
            statement = statement.where(CollectionTransform.collection_id == collection_id)
        if dataset_id is not None:
            statement = statement.where(CollectionTransform.dataset_id == dataset_id)
        if term := check_search(search):
            statement = statement.where(mentions(term, CollectionTransform.title))
        order = (
            Key(sort_by, getattr(CollectionTransform, sort_by), descending),
            Key("collection_transform_id", CollectionTransform.collection_transform_id),
        )
        with self.database.transaction() as session:
            if collection_id is not None:
                owned(session, Collection, collection_id, principal.owner_id)
            if dataset_id is not None:
                owned(session, Dataset, dataset_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, order, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(_view(*row) for row in rows), total, limit, offset, following)

    def get(self, principal: Principal, collection_transform_id: int) -> CollectionTransformView:
        """One transform; raises NotFoundError."""
        with self.database.transaction() as session:
            owned(session, CollectionTransform, collection_transform_id, principal.owner_id)
            which = CollectionTransform.collection_transform_id == collection_transform_id
            return _view(*session.execute(_joined().where(which)).one())

    def create(
        self,
        principal: Principal,
        *,
        title: str,
        collection_id: int,
        dataset_id: int,
        chunk_size: int | None = None,
        job_config: Mapping[str, Any] | None = None,
    ) -> CollectionTransformView:
        """Make a transform and plan its first run; raises NotFoundError, InvalidInputError."""
        config = self.complete(job_config or {}, chunk_size)
        row = CollectionTransform(
            owner_id=principal.owner_id,
            title=check_title(title),
            collection_id=collection_id,
            dataset_id=dataset_id,
            is_enabled=True,
            chunk_size=config["chunking"]["chunk_size"],
            job_config=config,
            config_hash=config_hash(config),
        )
        with self.database.transaction() as session:
            # Locked as by an upload: its file is planned here, or it sees the transform and plans it.
            owned(session, Collection, collection_id, principal.owner_id, field="collection_id", lock=True)
            owned(session, Dataset, dataset_id, principal.owner_id, field="dataset_id")
            session.add(row)
            session.flush()
            key = row.collection_transform_id
            self.outbox.record(session, PlanCollectionTransform(key), owner_id=principal.owner_id)
        return self.get(principal, key)

    def update(
        self, principal: Principal, collection_transform_id: int, changes: CollectionTransformChanges
    ) -> CollectionTransformView:
        """Change it; a new configuration makes every file new. Raises NotFoundError, InvalidInputError."""
        with self.database.transaction() as session:
            row = owned(session, CollectionTransform, collection_transform_id, principal.owner_id, lock=True)
            if "title" in changes:
                row.title = check_title(changes["title"])
            row.is_enabled = changes.get("is_enabled", row.is_enabled)
            if "chunk_size" in changes or "job_config" in changes:
                self._reconfigure(row, changes)
            if row.is_enabled:
                self._plan(principal, row, session)
        return self.get(principal, collection_transform_id)

    def delete(self, principal: Principal, collection_transform_id: int) -> None:
        """Delete it with the items that it made; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, CollectionTransform, collection_transform_id, principal.owner_id, lock=True)
            session.delete(row)
            session.flush()
            Removal(session, self.outbox, principal.owner_id).replan([row.dataset_id])

    def trigger(self, principal: Principal, collection_transform_id: int) -> None:
        """Look for files that are not done; raises NotFoundError, InvalidInputError when it is disabled."""
        with self.database.transaction() as session:
            row = owned(session, CollectionTransform, collection_transform_id, principal.owner_id)
            _refuse_disabled(row)
            self._plan(principal, row, session)

    def retry_failed(self, principal: Principal, collection_transform_id: int) -> int:
        """Make failed files new again and plan them; returns how many. Raises as `trigger`."""
        with self.database.transaction() as session:
            row = owned(session, CollectionTransform, collection_transform_id, principal.owner_id, lock=True)
            _refuse_disabled(row)
            gone = session.scalars(
                delete(FileExtraction)
                .where(
                    FileExtraction.collection_transform_id == collection_transform_id,
                    FileExtraction.state == "failed",
                )
                .returning(FileExtraction.file_id)
            ).all()
            self._plan(principal, row, session)
        return len(gone)

    def stats(self, principal: Principal, collection_transform_id: int) -> CollectionTransformStats:
        """How far it is; raises NotFoundError."""
        with self.database.transaction() as session:
            row = owned(session, CollectionTransform, collection_transform_id, principal.owner_id)
            files = session.scalar(
                select(func.count()).select_from(File).where(File.collection_id == row.collection_id)
            )
            current = current_run(session, PlanCollectionTransform.kind, collection_transform_id)
            return _stats(row, files or 0, session.execute(_counts(row)).one(), current)

    def processed_files(
        self,
        principal: Principal,
        collection_transform_id: int,
        *,
        limit: int = 20,
        offset: int = 0,
        cursor: str | None = None,
        status: FileStatus | None = None,
    ) -> Page[ProcessedFile]:
        """What it did with each file as both are now, last first; raises NotFoundError."""
        check_window(limit, offset)
        statement = processed(collection_transform_id)
        if status is not None:
            statement = statement.where(has_status(status))
        with self.database.transaction() as session:
            owned(session, CollectionTransform, collection_transform_id, principal.owner_id)
            rows, total, following = keyed_page(
                session, statement, LAST_FIRST, limit=limit, offset=offset, cursor=cursor
            )
            return Page(tuple(ProcessedFile(*row) for row in rows), total, limit, offset, following)

    def complete(self, job_config: Mapping[str, Any], chunk_size: int | None = None) -> dict[str, Any]:
        """The configuration with every default; raises InvalidInputError with field and rule."""
        if unknown := set(job_config) - {"extraction", "chunking"}:
            name = f"job_config.{min(unknown)}"
            raise InvalidInputError(f"{name}: there is no such option", field=name)
        chunking = job_config.get("chunking", {})
        if chunk_size is not None and isinstance(chunking, Mapping):
            chunking = {**chunking, "chunk_size": chunk_size}
        return {
            "extraction": dict(self.check_extraction(job_config.get("extraction", {}))),
            "chunking": dict(self.check_chunking(chunking)),
        }

    def _chosen(self, job_config: Mapping[str, Any]) -> dict[str, Any]:
        """The stored configuration without what is a default: an overlap of a tenth follows a new size."""
        whole = job_config["chunking"]
        chosen = {name: value for name, value in whole.items() if not self._is_default(whole, name)}
        return {**job_config, "chunking": chosen}

    def _is_default(self, whole: Mapping[str, Any], name: str) -> bool:
        try:
            return self.check_chunking({key: each for key, each in whole.items() if key != name}) == whole
        except InvalidInputError:  # without its strategy an option is refused
            return False

    def _reconfigure(self, row: CollectionTransform, changes: CollectionTransformChanges) -> None:
        given = changes["job_config"] if "job_config" in changes else self._chosen(row.job_config)
        config = self.complete(given, changes.get("chunk_size"))
        row.chunk_size = config["chunking"]["chunk_size"]
        row.job_config, row.config_hash = config, config_hash(config)

    def _plan(self, principal: Principal, row: CollectionTransform, session: Session) -> None:
        contract = PlanCollectionTransform(row.collection_transform_id)
        self.outbox.record(session, contract, owner_id=principal.owner_id)


def _refuse_disabled(row: CollectionTransform) -> None:
    if not row.is_enabled:
        raise InvalidInputError("the transform is disabled: enable it first", field="is_enabled")


def _joined() -> Select[tuple[CollectionTransform, str, str]]:
    return (
        select(CollectionTransform, Collection.title, Dataset.title)
        .join(Collection, Collection.collection_id == CollectionTransform.collection_id)
        .join(Dataset, Dataset.dataset_id == CollectionTransform.dataset_id)
    )


def _view(row: CollectionTransform, collection_title: str, dataset_title: str) -> CollectionTransformView:
    return view(CollectionTransformView, row, collection_title=collection_title, dataset_title=dataset_title)


def _stats(
    row: CollectionTransform, files: int, done: Row[Any], current: Row[Any] | None
) -> CollectionTransformStats:
    return CollectionTransformStats(
        collection_transform_id=row.collection_transform_id,
        current_run_id=current.job_id if current else None,
        current_run_started_at=current.started_at if current else None,
        total_files=files,
        total_files_processed=done.succeeded + done.failed,
        successful_files=done.succeeded,
        failed_files=done.failed,
        pending_files=files - done.succeeded - done.failed,
        total_items_created=done.items,
        total_chunks_created=int(done.chunks),
        avg_processing_duration_ms=None if done.duration is None else float(done.duration),
        last_run_at=done.last_run_at,
        progress=progress(
            "files",
            total=files,
            done=done.succeeded,
            failed=done.failed,
            cancelled=done.cancelled,
            running=done.running,
            rate=rate_of(done.recent, done.seconds),
        ),
    )


def _counts(row: CollectionTransform) -> Select[Any]:
    succeeded, waiting = FileExtraction.state == "succeeded", FileExtraction.state == "pending"
    cancelled = FileExtraction.error_code.is_not_distinct_from(JobCancelledError.code)
    ended = and_(~waiting, ~cancelled)
    return (
        select(
            func.count().filter(succeeded).label("succeeded"),
            func.count().filter(FileExtraction.state == "failed").label("failed"),
            func.count(FileExtraction.item_id).filter(succeeded).label("items"),
            func.coalesce(func.sum(FileExtraction.chunk_count).filter(succeeded), 0).label("chunks"),
            func.avg(FileExtraction.duration_ms).filter(succeeded).label("duration"),
            func.max(FileExtraction.processed_at).label("last_run_at"),
            func.count().filter(and_(~waiting, cancelled)).label("cancelled"),
            func.count().filter(and_(waiting, Job.state == "running")).label("running"),
            *pace(func.count(), ended, ended=FileExtraction.processed_at, started=Job.started_at),
        )
        .join(File, (File.file_id == FileExtraction.file_id) & (File.version == FileExtraction.file_version))
        .outerjoin(Job, Job.job_id == FileExtraction.job_id)
        .where(
            FileExtraction.collection_transform_id == row.collection_transform_id,
            FileExtraction.config_hash == row.config_hash,
        )
    )
