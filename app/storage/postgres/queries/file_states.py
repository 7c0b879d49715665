"""What became of a file over all transforms that read its collection, derived from the rows of its runs."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, and_, case, func, select

from app.storage.postgres.tables import CollectionTransform, File, FileExtraction, Job

# The worst of a file's transforms names its state; "stored" means that no transform reads it.
STATES = ("stored", "succeeded", "pending", "processing", "failed")
_STORED, _SUCCEEDED, _PENDING, _PROCESSING, _FAILED = range(len(STATES))


def file_states(which: ColumnElement[bool]) -> Select[tuple[int, int, int, int | None, str, str]]:
    """Columns file_id, rank (index into STATES), chunk_count, item_id, error_code, error_message."""
    rank = case(
        (FileExtraction.state == "succeeded", _SUCCEEDED),
        (FileExtraction.state == "failed", _FAILED),
        (Job.state.in_(("running", "retrying")), _PROCESSING),
        (CollectionTransform.is_enabled, _PENDING),
        else_=_STORED,
    )
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
