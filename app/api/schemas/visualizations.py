"""Maps on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import KeyedWindow, PageReply, QueryString, Window
from app.services.visualizations import ClusterView, MapSource, VisualizationView


class VisualizationPath(BaseModel):
    """Names a map."""

    visualization_id: int


class VisualizationsQuery(KeyedWindow):
    """Which maps."""

    limit: int = Field(50, ge=1, le=200)


class DownloadQuery(QueryString):
    """Whether a browser, too, gets the file and not the page that shows it."""

    download: Literal["true", "false"] = "false"


class RecentQuery(QueryString):
    """How many maps."""

    limit: int = Field(5, ge=1, le=100)


class MapPointsQuery(Window):
    """Which points, in the order of the Arrow file."""

    limit: int = Field(1000, ge=1, le=100_000)


class VisualizationReply(RootModel[VisualizationView]):
    """One run."""


class MapSourceReply(RootModel[MapSource]):
    """One map and what it was drawn from."""


class VisualizationList(PageReply):
    """A page of maps, newest first."""

    items: list[VisualizationView]


class RecentMaps(BaseModel):
    """The newest finished maps."""

    items: list[MapSource]


class ClusterList(BaseModel):
    """The topics of a map, largest first."""

    clusters: list[ClusterView]


class MapExport(BaseModel):
    """A whole map as one document."""

    visualization: MapSource
    clusters: list[ClusterView]
    points: list[dict[str, Any]]


class MapPoints(BaseModel):
    """A page of points: x, y, cluster and what they stand for."""

    points: list[dict[str, Any]]
    total_count: int
    limit: int
    offset: int
