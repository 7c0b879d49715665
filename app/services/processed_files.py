"""What collection transforms did with files, both as they are now, in the words that clients know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, case, cast, func, select

from app.storage.postgres.queries.file_states import current_extraction
from app.storage.postgres.queries.keyset import Key
from app.storage.postgres.tables import CollectionTransform, File, FileExtraction

# `completed` and `succeeded` are two words for one state.
FileStatus = Literal["pending", "completed", "failed", "succeeded"]

LAST_FIRST = (
    Key("processed_at", FileExtraction.processed_at, descending=True, nullable=True),
    Key("file_id", File.file_id),
    Key("collection_transform_id", FileExtraction.collection_transform_id),
)


@dataclass(frozen=True, slots=True)
class ProcessedFile:
    """What a transform did with one file; `process_status` is pending, completed or failed."""

    file_id: int
    file_key: str
    name: str
    file_version: int
    process_status: str
    state: str
    item_id: int | None
    item_count: int
    chunk_count: int | None
    error_code: str | None
    process_error: str | None
    processing_duration_ms: int | None
    processed_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailedFile(ProcessedFile):
    """A file that a transform could not read."""

    collection_transform_id: int
    transform_title: str


def processed(collection_transform_id: int) -> Select[Any]:
    """The rows of ProcessedFile of one transform."""
    return _rows().where(FileExtraction.collection_transform_id == collection_transform_id)


def failed(collection_id: int) -> Select[Any]:
    """The rows of FailedFile of one collection."""
    return (
        _rows()
        .add_columns(CollectionTransform.collection_transform_id, CollectionTransform.title)
        .where(File.collection_id == collection_id, FileExtraction.state == "failed")
    )


def has_status(status: FileStatus) -> ColumnElement[bool]:
    """Whether a row has this status."""
    return FileExtraction.state == ("succeeded" if status == "completed" else status)


def _rows() -> Select[Any]:
    columns = (
        File.file_id,
        cast(File.file_id, Text).label("key"),
        File.name,
        FileExtraction.file_version,
        case((FileExtraction.state == "succeeded", "completed"), else_=FileExtraction.state),
        FileExtraction.state,
        FileExtraction.item_id,
        func.num_nonnulls(FileExtraction.item_id),
        FileExtraction.chunk_count,
        FileExtraction.error_code,
        FileExtraction.error_message,
        FileExtraction.duration_ms,
        FileExtraction.processed_at,
    )
    return (
        select(*columns)
        .select_from(File)
        .join(CollectionTransform, CollectionTransform.collection_id == File.collection_id)
        .join(FileExtraction, current_extraction())
    )
