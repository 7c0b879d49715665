"""…/export: everything of a thing as one file."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ResponseDict

from app.api.context import me, services
from app.api.rows import NDJSON, PARQUET, rows
from app.api.schemas.base import WITH_CONFLICT
from app.api.schemas.datasets import DatasetPath
from app.api.schemas.embedded_datasets import EmbeddedDatasetPath
from app.api.schemas.exports import ExportQuery, MapExportQuery, PointsExportQuery
from app.api.schemas.visualizations import VisualizationPath

api = APIBlueprint(
    "exports", __name__, url_prefix="/api", abp_tags=[Tag(name="Exports")], abp_responses=WITH_CONFLICT
)
_FILE: ResponseDict = {
    "200": {
        "content": {
            NDJSON: {"schema": {"type": "string"}},
            PARQUET: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


@api.get("/datasets/<int:dataset_id>/export", responses=_FILE)
def export_dataset(path: DatasetPath, query: ExportQuery) -> Response:
    """Download every passage with its document."""
    return rows(services().exports.dataset(me(), path.dataset_id), query.format)


@api.get("/embedded-datasets/<int:embedded_dataset_id>/export", responses=_FILE)
def export_embedded_dataset(path: EmbeddedDatasetPath, query: PointsExportQuery) -> Response:
    """Download every point, with its numbers where asked for (`vectors=true`)."""
    wanted = query.vectors == "true"
    export = services().exports.embedded_dataset(me(), path.embedded_dataset_id, vectors=wanted)
    return rows(export, query.format)


@api.get("/visualizations/<int:visualization_id>/export", responses=_FILE)
def export_visualization(path: VisualizationPath, query: MapExportQuery) -> Response:
    """Download every coordinate of a map, or its topics (`what=clusters`)."""
    of = services().exports
    make = of.map_points if query.what == "points" else of.map_clusters
    return rows(make(me(), path.visualization_id), query.format)
