"""Collections on disk: one folder each, opened when first used, flushed while idle.

    data/<name>/collection.json   what it was created with
    data/<name>/shard/            the engine's files; its write-ahead log survives kill -9

The engine holds Python's global lock, so everything here runs on one thread, the event loop's. Search is
exact: no index is built. 10,000 vectors of 384 numbers take about 1 ms, 100,000 about 10 ms; beyond
200,000 use a real Qdrant.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import qdrant_edge as edge
from qdrant_client.http import models

from devstack.vectors import translate
from devstack.vectors.errors import AlreadyExistsError, MissingError, WrongInputError

_NAME_LIMIT = 200
_ABANDONED = ".gone-"  # no collection's folder begins with a dot


class Collection:
    """One collection: its parameters and its open shard."""

    def __init__(self, folder: Path) -> None:
        self.params = models.VectorParams(**json.loads((folder / "collection.json").read_text()))
        self.shard: Any = edge.EdgeShard.load(str(folder / "shard"))
        self._dirty = False
        self._operations = 0

    def update(self, operation: Any) -> int:
        """Apply a write, in the log when this returns; return its number."""
        self.shard.update(operation)
        self._dirty = True
        self._operations += 1
        return self._operations

    def flush(self) -> None:
        """Write the segments to disk, so that a restart replays less of the log."""
        if self._dirty:
            self.shard.flush()
            self._dirty = False

    def close(self) -> None:
        """Flush and release the files."""
        self.flush()
        self.shard.close()

    def info(self) -> dict[str, Any]:
        """Return what GET /collections/{name} answers."""
        info = self.shard.info()
        schema = {
            field: {"data_type": translate.index_name(index.data_type), "points": index.points}
            for field, index in info.payload_schema.items()
        }
        return {
            "status": "green",
            "optimizer_status": "ok",
            "points_count": info.points_count,
            "indexed_vectors_count": info.indexed_vectors_count,
            "segments_count": info.segments_count,
            "config": _config(self.params),
            "payload_schema": schema,
        }


def _config(params: models.VectorParams) -> dict[str, Any]:
    return {
        "params": {"vectors": params.model_dump(mode="json", exclude_none=True), "shard_number": 1},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 1, "flush_interval_sec": 5, "indexing_threshold": 0},
    }


class Store:
    """All collections under one data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Collection] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def names(self) -> list[str]:
        """Names of the collections, sorted."""
        return sorted(unquote(path.name) for path in self._folder.iterdir() if not path.name.startswith("."))

    def exists(self, name: str) -> bool:
        """Tell whether the collection is there."""
        return name in self._open or self._path(name).exists()

    def get(self, name: str) -> Collection:
        """Return the collection, opening it where needed; MissingError."""
        known = self._open.get(name)
        if known is None:
            path = self._path(name)
            if not path.exists():
                raise MissingError(f"Not found: Collection `{name}` doesn't exist!")
            known = self._open[name] = Collection(path)
        return known

    def create(self, name: str, params: models.VectorParams) -> None:
        """Make an empty collection; after a crash it is there whole or not at all."""
        path = self._path(name)
        if path.exists():
            raise AlreadyExistsError(f"Wrong input: Collection `{name}` already exists!")
        draft = self._folder / f".new-{path.name}"
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "shard").mkdir(parents=True)
        (draft / "collection.json").write_text(params.model_dump_json(exclude_none=True))
        edge.EdgeShard.create(str(draft / "shard"), translate.shard_config(params)).close()
        draft.rename(path)

    def drop(self, name: str) -> bool:
        """Delete the collection; tell whether there was one."""
        path = self._path(name)
        known = self._open.pop(name, None)
        if known is not None:
            known.shard.close()
        if not path.exists():
            return False
        gone = path.rename(self._folder / f"{_ABANDONED}{time.monotonic_ns()}")
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def opened(self) -> Iterator[Collection]:
        """Yield the collections in use."""
        yield from tuple(self._open.values())

    def close(self) -> None:
        """Flush and close every collection."""
        for collection in self.opened():
            collection.close()
        self._open.clear()

    def _path(self, name: str) -> Path:
        folder = quote(name, safe=" ")
        if not name or len(folder) > _NAME_LIMIT or name.startswith("."):
            raise WrongInputError(
                f"Wrong input: Collection name must be 1 to {_NAME_LIMIT} characters, no dot first"
            )
        return self._folder / folder
