"""Visualization transforms on the wire."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject, QueryString, SortedWindow, Title
from app.services.paging import Page
from app.services.visualization_transforms import (
    SortBy,
    VisualizationTransformStats,
    VisualizationTransformView,
)


class VisualizationTransformPath(BaseModel):
    """Names a visualization transform."""

    visualization_transform_id: int


class RunPath(BaseModel):
    """Names a run of a visualization transform."""

    visualization_transform_id: int
    visualization_id: int


class VisualizationTransformQuery(SortedWindow):
    """Which transforms, in which order."""

    sort_by: SortBy = "created_at"
    embedded_dataset_id: int | None = None


class CreateVisualizationTransform(Body):
    """A new transform; `visualization_config` may name the parameters of the map."""

    title: Title
    embedded_dataset_id: int
    visualization_config: JsonObject = Field(default_factory=dict)


class UpdateVisualizationTransform(Body):
    """What to change; what is missing stays."""

    title: Title = ""
    is_enabled: bool = True
    visualization_config: JsonObject = Field(default_factory=dict)


class VisualizationTransformReply(RootModel[VisualizationTransformView]):
    """One visualization transform."""


class VisualizationTransformList(BaseModel):
    """A page of visualization transforms."""

    items: list[VisualizationTransformView]
    total_count: int
    limit: int
    offset: int

    @classmethod
    def of(cls, page: Page[VisualizationTransformView]) -> Self:
        """From a page of the service."""
        return cls(items=list(page.items), total_count=page.total_count, limit=page.limit, offset=page.offset)


class VisualizationTransformStatsReply(RootModel[VisualizationTransformStats]):
    """How its runs went."""


class VisualizationStreamQuery(QueryString):
    """Whose events."""

    embedded_dataset_id: int | None = None
    visualization_transform_id: int | None = None
