"""Embedded datasets on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, KeyedSearchWindow, QueryString, Title
from app.api.schemas.dataset_transforms import BatchQuery
from app.services.embedded_datasets import MOST_BATCHES, EmbeddedDatasetView, PointPage
from app.storage.postgres.queries.embedding_progress import EmbeddingProgress


class EmbeddedDatasetPath(BaseModel):
    """Names an embedded dataset."""

    embedded_dataset_id: int


class PointPath(BaseModel):
    """Names a stored vector."""

    embedded_dataset_id: int
    point_id: str


class EmbeddedDatasetQuery(KeyedSearchWindow):
    """Which embedded datasets."""

    limit: int = Field(20, ge=1, le=100)


class UpdateEmbeddedDataset(Body):
    """A new title."""

    title: Title


class EmbeddedDatasetReply(RootModel[EmbeddedDatasetView]):
    """One embedded dataset."""


class EmbeddingProgressReply(RootModel[EmbeddingProgress]):
    """How far it is."""


class EmbeddedDatasetIds(Body):
    """Names some embedded datasets."""

    embedded_dataset_ids: list[int] = Field(min_length=1, max_length=100)


class EmbeddingProgressList(BaseModel):
    """How far each is, by id."""

    stats: list[EmbeddingProgress]


class PointsQuery(QueryString):
    """Which points; `offset` is the `next_offset` of the page before."""

    limit: int = Field(10, ge=1, le=1000)
    offset: str | None = None


class PointPageReply(RootModel[PointPage]):
    """A page of points."""


class VectorReply(BaseModel):
    """The numbers of a point."""

    id: str
    vector: list[float]


class ProcessedBatchQuery(BatchQuery):
    """Which batches."""

    limit: int = Field(100, ge=1, le=MOST_BATCHES)
