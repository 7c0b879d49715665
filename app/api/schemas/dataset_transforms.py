"""Dataset transforms on the wire."""

from __future__ import annotations

from typing import Literal

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
from app.services.batch_views import Batch, BatchFilter, BatchSortBy
from app.services.batches import BatchStats
from app.services.dataset_progress import DatasetTransformStats
from app.services.dataset_transforms import DatasetTransformView, SortBy
from app.services.embedded_datasets import EmbeddedDatasetView


class DatasetTransformPath(BaseModel):
    """Names a dataset transform."""

    dataset_transform_id: int


class DatasetTransformQuery(SortedWindow):
    """Which transforms, in which order."""

    sort_by: SortBy = "created_at"
    dataset_id: int | None = None


class CreateDatasetTransform(Body):
    """A new transform: one embedded dataset is made per embedder."""

    title: Title
    source_dataset_id: int
    embedder_ids: list[int]
    job_config: JsonObject = Field(default_factory=dict)


class UpdateDatasetTransform(Body):
    """What to change; what is missing stays. An embedder left out loses its vectors."""

    title: Title = ""
    is_enabled: bool = True
    embedder_ids: list[int] = Field(default_factory=list)
    job_config: JsonObject = Field(default_factory=dict)


class DatasetTransformReply(RootModel[DatasetTransformView]):
    """One dataset transform."""


class CreatedDatasetTransform(BaseModel):
    """A new transform and the embedded datasets it fills."""

    transform: DatasetTransformView
    embedded_datasets: list[EmbeddedDatasetView]
    message: str


class DatasetTransformList(PageReply):
    """A page of dataset transforms."""

    items: list[DatasetTransformView]


class DatasetTransformStatsReply(RootModel[DatasetTransformStats]):
    """How far a transform is."""


class BatchQuery(KeyedWindow):
    """Which batches."""

    limit: int = Field(20, ge=1, le=1000)
    status: BatchFilter | None = None
    sort_by: BatchSortBy = "created_at"
    sort_direction: Literal["asc", "desc"] = "desc"

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return self.sort_direction == "desc"


class BatchList(PageReply):
    """A page of batches, newest first unless told otherwise."""

    items: list[Batch]


class BatchPath(BaseModel):
    """Names a batch of a dataset transform."""

    dataset_transform_id: int
    batch_key: str


class BatchReply(RootModel[Batch]):
    """One batch."""


class BatchStatsReply(RootModel[BatchStats]):
    """The batches, counted."""


class DatasetStreamQuery(QueryString):
    """Whose events."""

    dataset_id: int | None = None
