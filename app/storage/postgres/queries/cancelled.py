"""Marks what a transform has not done as cancelled, whether a job was recorded for it or not yet.

Planning finds by set difference, so what is not marked would be begun by the next plan, for whatever
reason that is made. Call with the transform held and its jobs cancelled; jobs that are still active keep
what waits for them.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Select,
    exists,
    func,
    literal,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.errors import JobCancelledError
from app.storage.postgres.queries.settled import (
    embedding_of_item,
    extraction_of_file,
    settled_file,
    settled_item,
)
from app.storage.postgres.tables import (
    CollectionTransform,
    EmbeddedDataset,
    File,
    FileExtraction,
    Item,
    ItemEmbedding,
    Job,
)


def mark_files(
    session: Session, transform: CollectionTransform, error: JobCancelledError, *, job_id: UUID
) -> int:
    """Files that a plan would plan now, or just those that wait if it is disabled; how many.

    `job_id` is noted where no job was recorded before.
    """
    to_do = (
        select(
            literal(transform.collection_transform_id),
            File.file_id,
            File.version,
            literal(transform.config_hash),
            literal(job_id),
            *_outcome(error),
        )
        .where(
            File.collection_id == transform.collection_id,
            ~settled_file(transform),
            true()
            if transform.is_enabled
            else exists().where(extraction_of_file(transform), FileExtraction.state == "pending"),
        )
        .order_by(File.file_id)
        # As the foreign key would take it, but in order, and leaving out what was deleted meanwhile.
        .with_for_update(read=True, key_share=True, of=File)
    )
    names = ("collection_transform_id", "file_id", "file_version", "config_hash", "job_id")
    return _upsert(session, FileExtraction, names, to_do)


def mark_items(
    session: Session, target: EmbeddedDataset, error: JobCancelledError, *, job_id: UUID, is_enabled: bool
) -> int:
    """Items of one embedded dataset, as `mark_files`; their rows stand for vectors and are kept."""
    to_do = (
        select(
            literal(target.embedded_dataset_id),
            Item.item_id,
            Item.content_hash,
            Item.chunk_count,
            literal(job_id),
            *_outcome(error),
        )
        .where(
            Item.dataset_id == target.source_dataset_id,
            ~settled_item(target),
            true()
            if is_enabled
            else exists().where(embedding_of_item(target), ItemEmbedding.state == "pending"),
        )
        .order_by(Item.item_id)
    )
    names = ("embedded_dataset_id", "item_id", "content_hash", "chunk_count", "job_id")
    return _upsert(session, ItemEmbedding, names, to_do)


def mark_of_run(
    session: Session, table: type[FileExtraction | ItemEmbedding], run_id: UUID, error: JobCancelledError
) -> int:
    """What waits for the cancelled jobs of a run; how many."""
    stopped = select(Job.job_id).where(Job.planned_by == run_id, Job.state == "cancelled")
    waiting = (table.state == "pending", table.job_id.in_(stopped))
    key = table.__mapper__.primary_key
    # Locked in the order of their keys, as others lock them.
    held = select(*key).where(*waiting).order_by(*key).with_for_update()
    result = session.execute(
        update(table)
        .where(tuple_(*key).in_(held), *waiting)
        .values(dict(zip(_OUTCOME, _outcome(error), strict=True)))
        .execution_options(synchronize_session=False)
    )
    return cast("CursorResult[Any]", result).rowcount


_OUTCOME = ("state", "error_code", "error_message", "processed_at")


def _outcome(error: JobCancelledError) -> tuple[ColumnElement[Any], ...]:
    return literal("failed"), literal(error.code), literal(error.message), func.now()


def _upsert(
    session: Session, table: type[FileExtraction | ItemEmbedding], names: tuple[str, ...], rows: Select[Any]
) -> int:
    """Insert or overwrite; the first two names are the key, and a job that is named already stays so."""
    keys, rest = names[:2], {*names[2:], *_OUTCOME} - {"job_id"}
    statement = insert(table).from_select([*names, *_OUTCOME], rows)
    result = session.execute(
        statement.on_conflict_do_update(
            index_elements=list(keys), set_={name: statement.excluded[name] for name in rest}
        )
    )
    return cast("CursorResult[Any]", result).rowcount
