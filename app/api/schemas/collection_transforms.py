"""Collection transforms on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import (
    Body,
    JsonObject,
    KeyedWindow,
    PageReply,
    QueryString,
    SortedWindow,
    Title,
)
from app.services.collection_transforms import (
    CollectionTransformStats,
    CollectionTransformView,
    SortBy,
)
from app.services.processed_files import FileStatus, ProcessedFile


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


class CollectionTransformList(PageReply):
    """A page of collection transforms."""

    items: list[CollectionTransformView]


class CollectionTransformStatsReply(RootModel[CollectionTransformStats]):
    """How far a transform is."""


class ProcessedFilesQuery(KeyedWindow):
    """Which files."""

    limit: int = Field(20, ge=1, le=1000)
    status: FileStatus | None = None


class ProcessedFileList(PageReply):
    """A page of processed files."""

    items: list[ProcessedFile]


class CollectionStreamQuery(QueryString):
    """Whose events."""

    collection_id: int | None = None
