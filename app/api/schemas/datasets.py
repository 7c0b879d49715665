"""Datasets on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, Details, KeyedWindow, PageReply, Tags, Title
from app.services.datasets import DatasetView
from app.services.embedded_datasets import EmbeddedDatasetView


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


class DatasetList(PageReply):
    """A page of datasets."""

    items: list[DatasetView]


class EmbeddedOfDatasetQuery(KeyedWindow):
    """Which embedded datasets."""

    limit: int = Field(50, ge=1, le=200)


class EmbeddedDatasetList(PageReply):
    """A page of embedded datasets."""

    rows = "embedded_datasets"
    embedded_datasets: list[EmbeddedDatasetView]
