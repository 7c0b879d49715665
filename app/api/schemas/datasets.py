"""Datasets on the wire."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, Details, Tags, Title, Window
from app.services.datasets import DatasetView
from app.services.embedded_datasets import EmbeddedDatasetView
from app.services.paging import Page


class DatasetPath(BaseModel):
    """Names a dataset."""

    dataset_id: int


class CreateDataset(Body):
    """A new dataset."""

    title: Title
    details: Details | None = None
    tags: Tags = Field(default_factory=list)
    is_public: bool = False


class UpdateDataset(Body):
    """What to change; what is missing stays."""

    title: Title = ""
    details: Details | None = None
    tags: Tags = Field(default_factory=list)
    is_public: bool = False


class DatasetReply(RootModel[DatasetView]):
    """One dataset."""


class DatasetList(BaseModel):
    """A page of datasets."""

    items: list[DatasetView]
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None


class EmbeddedOfDatasetQuery(Window):
    """Which embedded datasets."""

    limit: int = Field(50, ge=1, le=200)


class EmbeddedDatasetList(BaseModel):
    """A page of embedded datasets."""

    embedded_datasets: list[EmbeddedDatasetView]
    total_count: int
    limit: int
    offset: int

    @classmethod
    def of(cls, page: Page[EmbeddedDatasetView]) -> Self:
        """From a page of the service."""
        return cls(
            embedded_datasets=list(page.items),
            total_count=page.total_count,
            limit=page.limit,
            offset=page.offset,
        )
