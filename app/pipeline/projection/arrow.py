"""The points of a map as one Arrow IPC file: what is stored, exported and sent to the browser's map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from app.pipeline.projection.base import Projection


@dataclass(frozen=True, slots=True)
class Points:
    """A read file with the columns that `write_points` writes."""

    table: Any

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Some points as JSON values, with the point id as text."""
        found = self.table.slice(offset, limit).to_pylist()
        return [{**row, "point_id": str(UUID(bytes=row["point_id"]))} for row in found]


def write_points(
    path: Path, projection: Projection, point_ids: Sequence[UUID], item_ids: Sequence[int]
) -> None:
    """Write the i-th point with the i-th id; raises ValueError when the lengths differ."""
    import pyarrow as pa

    if not len(point_ids) == len(item_ids) == len(projection.points):
        raise ValueError(f"{len(projection.points)} points, {len(point_ids)} ids, {len(item_ids)} items")
    table = pa.table(
        {
            "point_id": pa.array([one.bytes for one in point_ids], pa.binary(16)),
            "item_id": pa.array(item_ids, pa.int64()),
            "x": pa.array(projection.points[:, 0], pa.float32()),
            "y": pa.array(projection.points[:, 1], pa.float32()),
            "cluster": pa.array(projection.labels, pa.int32()),
            "nearest": pa.array(projection.nearest_topic, pa.int32()),
            "probability": pa.array(projection.probabilities, pa.float32()),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def read_points(content: bytes) -> Points:
    """Read what `write_points` wrote."""
    import pyarrow as pa

    return Points(pa.ipc.open_file(pa.BufferReader(content)).read_all())


def read_page(content: bytes, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
    """Some points as JSON values, and how many there are."""
    points = read_points(content)
    return points.rows(offset, limit), len(points)
