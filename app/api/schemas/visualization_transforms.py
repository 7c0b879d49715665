"""Visualization transforms on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject, PageReply, QueryString, SortedWindow, Title
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


class VisualizationTransformList(PageReply):
    """A page of visualization transforms."""

    items: list[VisualizationTransformView]


class VisualizationTransformStatsReply(RootModel[VisualizationTransformStats]):
    """How its runs went."""


class VisualizationStreamQuery(QueryString):
    """Whose events."""

    embedded_dataset_id: int | None = None
    visualization_transform_id: int | None = None
