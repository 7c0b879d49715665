from __future__ import annotations

import json
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa

from app.web import points


def _file(count: int, *, cluster: list[int] | None = None) -> tuple[bytes, list[UUID]]:
    ids = [uuid4() for _ in range(count)]
    table = pa.table(
        {
            "point_id": pa.array([one.bytes for one in ids], pa.binary(16)),
            "item_id": pa.array([10**12 + i // 2 for i in range(count)], pa.int64()),
            "x": pa.array(np.linspace(-3, 9, count), pa.float32()),
            "y": pa.array(np.linspace(5, -5, count), pa.float32()),
            "cluster": pa.array(cluster or [i % 3 - 1 for i in range(count)], pa.int32()),
            "nearest": pa.array([0] * count, pa.int32()),
            "probability": pa.array([1.0] * count, pa.float32()),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes(), ids


def test_points_are_packed_in_the_order_of_the_columns() -> None:
    file, ids = _file(5)
    content = points.packed(file)
    length = int.from_bytes(content[:4], "little")
    assert (4 + length) % 4 == 0
    assert json.loads(content[4 : 4 + length]) == {"count": 5, "documents": 3}
    body = content[4 + length :]
    assert len(body) == 5 * (4 + 4 + 4 + 4 + 4 + 16)
    assert np.frombuffer(body, "<f4", 5)[[0, -1]].tolist() == [-3, 9]
    assert np.frombuffer(body, "<i4", 5, offset=5 * 8).tolist() == [-1, 0, 1, -1, 0]
    assert np.frombuffer(body, "<i4", 5, offset=5 * 16).tolist() == [0, 0, 1, 1, 2]
    assert [UUID(bytes=body[100 + 16 * i : 116 + 16 * i]) for i in range(5)] == ids


def test_a_map_without_points_is_packed_too() -> None:
    content = points.packed(_file(0)[0])
    length = int.from_bytes(content[:4], "little")
    assert json.loads(content[4:]) == {"count": 0, "documents": 0}
    assert len(content) == 4 + length


def test_the_picture_of_a_large_map_stays_small() -> None:
    picture = points.preview(_file(30_000)[0])
    assert picture.startswith("<svg")
    assert len(picture) < 40_000


def test_a_map_of_one_point_has_a_picture() -> None:
    assert "M10 190h0" in points.preview(_file(1, cluster=[0])[0])
