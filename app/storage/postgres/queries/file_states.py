"""What became of a file over all transforms that read its collection, derived from the rows of its runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Case, ColumnElement, Select, and_, case, func, select
from sqlalchemy.sql.selectable import LateralFromClause

from app.errors import JobCancelledError
from app.storage.postgres.tables import CollectionTransform, File, FileExtraction, Job

# The worst of a file's transforms names its state; "stored" means that no transform reads it.
STATES = ("stored", "succeeded", "pending", "processing", "failed")
_STORED, _SUCCEEDED, _PENDING, _PROCESSING, _FAILED = range(len(STATES))


def file_states(which: ColumnElement[bool]) -> Select[tuple[int, int, int, int | None, str, str]]:
    """Columns file_id, rank (index into STATES), chunk_count, item_id, error_code, error_message."""
    rank = _rank()
    failed = FileExtraction.state == "failed"
    return (
        select(
            File.file_id,
            func.coalesce(func.max(rank), _STORED).label("rank"),
            func.coalesce(func.sum(FileExtraction.chunk_count), 0).label("chunk_count"),
            func.max(FileExtraction.item_id).label("item_id"),
            func.max(FileExtraction.error_code).filter(failed).label("error_code"),
            func.max(FileExtraction.error_message).filter(failed).label("error_message"),
        )
        .outerjoin(CollectionTransform, CollectionTransform.collection_id == File.collection_id)
        .outerjoin(FileExtraction, current_extraction())
        .outerjoin(Job, Job.job_id == FileExtraction.job_id)
        .where(which)
        .group_by(File.file_id)
    )


def deciding_transform() -> LateralFromClause:
    """For the outer query's File: the transform that its state is of, with what that made of it; or no row.

    The worst one, as in `file_states`, a failure before a cancellation, and of equals the newest. Columns
    rank, collection_transform_id, dataset_id, chunk_count, error_code, error_message, and of the job that
    the file waits for job_state, attempt, job_error.
    """
    is_cancelled = FileExtraction.error_code.is_not_distinct_from(JobCancelledError.code)
    transform_id, rank = CollectionTransform.collection_transform_id, _rank()
    return (
        select(
            rank.label("rank"),
            transform_id,
            CollectionTransform.dataset_id,
            FileExtraction.chunk_count,
            FileExtraction.error_code,
            FileExtraction.error_message,
            Job.state.label("job_state"),
            Job.attempt,
            Job.error_message.label("job_error"),
        )
        .select_from(CollectionTransform)
        .outerjoin(FileExtraction, current_extraction())
        .outerjoin(Job, Job.job_id == FileExtraction.job_id)
        .where(CollectionTransform.collection_id == File.collection_id)
        .order_by(rank.desc(), is_cancelled, transform_id.desc())
        .limit(1)
        .correlate(File)
        .lateral("decides")
    )


def _rank() -> Case[Any]:
    return case(
        (FileExtraction.state == "succeeded", _SUCCEEDED),
        (FileExtraction.state == "failed", _FAILED),
        (Job.state.in_(("running", "retrying")), _PROCESSING),
        (CollectionTransform.is_enabled, _PENDING),
        else_=_STORED,
    )


def current_extraction() -> ColumnElement[bool]:
    """The run that did this version of the file with the transform's present configuration."""
    return and_(
        FileExtraction.collection_transform_id == CollectionTransform.collection_transform_id,
        FileExtraction.file_id == File.file_id,
        FileExtraction.file_version == File.version,
        FileExtraction.config_hash == CollectionTransform.config_hash,
    )


def state_counts(which: ColumnElement[bool]) -> Select[tuple[int, int]]:
    """Columns rank and number of files."""
    states = file_states(which).subquery()
    return select(states.c.rank, func.count()).group_by(states.c.rank)
