"""Exports on the wire."""

from __future__ import annotations

from typing import Literal

from app.api.schemas.base import QueryString


class ExportQuery(QueryString):
    """In which format."""

    format: Literal["ndjson", "parquet"] = "ndjson"


class PointsExportQuery(ExportQuery):
    """In which format, and whether with the numbers."""

    vectors: Literal["true", "false"] = "false"


class MapExportQuery(ExportQuery):
    """In which format, and what: coordinates or topics."""

    what: Literal["points", "clusters"] = "points"
