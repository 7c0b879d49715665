"""Rows as a download, NDJSON or Parquet, written while they are read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from flask import Response

from app.api.replies import attachment
from app.services.exports import ColumnKind, Export, Record

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["ndjson", "parquet"]
NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


def rows(export: Export, form: Format) -> Response:
    """The rows as a file; the first batch is read before the answer begins, so that its errors are told."""
    first = next(export.batches, ())
    batches = chain([first], export.batches)
    if form == "ndjson":
        response = Response(_ndjson(batches), mimetype=NDJSON)
    else:
        response = Response(_parquet(export, batches), mimetype=PARQUET)
    response.headers["Content-Disposition"] = attachment(f"{export.name}.{form}")
    return response


def _ndjson(batches: Iterator[Sequence[Record]]) -> Iterator[str]:
    for batch in batches:
        if batch:
            yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch)


def _parquet(export: Export, batches: Iterator[Sequence[Record]]) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(export)
    as_text = [name for name, kind in export.columns.items() if kind == "json"]
    sink = _Pipe()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in batches:
            if batch:
                plain = [row | {name: json.dumps(row[name]) for name in as_text} for row in batch]
                writer.write_table(pa.Table.from_pylist(plain, schema))
            yield sink.taken()
    yield sink.taken()


def _schema(export: Export) -> pa.Schema:
    import pyarrow as pa

    kinds: dict[ColumnKind, Any] = {
        "int": pa.int64(),
        "float": pa.float32(),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "json": pa.string(),
        "floats": pa.list_(pa.float32()),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in export.columns.items()])


class _Pipe(io.RawIOBase):
    """What is written lies here until it is taken; nothing is kept."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._length += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._length

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
