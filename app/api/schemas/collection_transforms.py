"""Collection transforms on the wire."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject, KeyedWindow, QueryString, SortedWindow, Title
from app.services.collection_transforms import (
    CollectionTransformStats,
    CollectionTransformView,
    FileState,
    ProcessedFile,
    SortBy,
)
from app.services.paging import Page


class CollectionTransformPath(BaseModel):
    """Names a collection transform."""

    collection_transform_id: int


class CollectionTransformQuery(SortedWindow):
    """Which transforms, in which order."""

    sort_by: SortBy = "created_at"
    collection_id: int | None = None
    dataset_id: int | None = None


class CreateCollectionTransform(Body):
    """A new transform; `job_config` has the parts extraction and chunking."""

    title: Title
    collection_id: int
    dataset_id: int
    chunk_size: int | None = None
    job_config: JsonObject = Field(default_factory=dict)


class UpdateCollectionTransform(Body):
    """What to change; what is missing stays."""

    title: Title = ""
    is_enabled: bool = True
    chunk_size: int = 0
    job_config: JsonObject = Field(default_factory=dict)


class CollectionTransformReply(RootModel[CollectionTransformView]):
    """One collection transform."""


class CollectionTransformList(BaseModel):
    """A page of collection transforms."""

    items: list[CollectionTransformView]
    total_count: int
    limit: int
    offset: int

    @classmethod
    def of(cls, page: Page[CollectionTransformView]) -> Self:
        """From a page of the service."""
        return cls(items=list(page.items), total_count=page.total_count, limit=page.limit, offset=page.offset)


class CollectionTransformStatsReply(RootModel[CollectionTransformStats]):
    """How far a transform is."""


class ProcessedFilesQuery(KeyedWindow):
    """Which files."""

    limit: int = Field(20, ge=1, le=1000)
    status: FileState | None = None


class ProcessedFileList(BaseModel):
    """A page of processed files."""

    items: list[ProcessedFile]
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None


class CollectionStreamQuery(QueryString):
    """Whose events."""

    collection_id: int | None = None
