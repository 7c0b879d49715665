"""Vector indexes in Qdrant, one per embedded dataset; REST, or gRPC where the URL names its port, 6334.

A point is a passage: its id is the chunk's, its payload holds owner, item and what can be filtered. Lengths
are cosine, so what comes back is of unit length whatever was stored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os import getpid
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from app.errors import DimensionMismatchError, InvalidInputError, NotFoundError
from app.observability.calls import call
from app.observability.server_metrics import UPSERT_POINTS
from app.storage import qdrant_wire as wire
from app.storage.filters import Filters, items

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

FILTERABLE: Mapping[str, str] = {
    "owner_id": "keyword",
    "item_id": "integer",
    "file_id": "integer",
    "media_type": "keyword",
    "language": "keyword",
    "page": "integer",
    "created_at": "datetime",
    "tags": "keyword",
}

_DELETE_AT_ONCE = 1000

Payload = dict[str, Any]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorStoreOptions:
    """Where Qdrant is and how patient to be."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_seconds: int = 30
    upsert_batch: int = 256
    pool_size: int = 32


@dataclass(frozen=True, slots=True)
class Hit:
    """A found point; `score` is the cosine, 1 is the same direction."""

    id: UUID
    score: float
    payload: Payload


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits that share a value of the grouping field, best first."""

    key: int | str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A stored point; `vector` is float32, shape (dimensions,), where it was asked for."""

    id: UUID
    payload: Payload
    vector: Vectors | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some points in the order of ids, and where the next page begins (None: nowhere)."""

    points: tuple[Point, ...]
    cursor: str | None


class VectorStore:
    """Vector indexes by name.

    Every method raises UnavailableError when Qdrant is away or fails, NotFoundError for an unknown index
    unless it says otherwise, and DimensionMismatchError where vectors do not fit the index.
    """

    def __init__(self, options: VectorStoreOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._made: tuple[int, QdrantClient] | None = None  # with the pid that made it

    def exists(self, name: str) -> bool:
        """Whether there is such an index."""
        with self._call("exists", name):
            return bool(self._client.collection_exists(name))

    def ensure_index(self, name: str, dimensions: int) -> None:
        """Create the index and what makes filters quick, where missing; safe to call from many workers."""
        from qdrant_client import models

        with self._call("ensure_index", name):
            if not self._client.collection_exists(name):
                params = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
                with wire.already_there_is_fine():
                    self._client.create_collection(name, vectors_config=params)
            info = self._client.get_collection(name)
            present = getattr(info.config.params.vectors, "size", None)
            if present != dimensions:
                raise DimensionMismatchError(
                    f"Vector index {name} holds vectors of {present} numbers, not of {dimensions}: "
                    "an index belongs to one model, make a new embedded dataset for another"
                )
            for key in FILTERABLE.keys() - info.payload_schema.keys():
                kind = models.PayloadSchemaType(FILTERABLE[key])
                self._client.create_payload_index(name, key, field_schema=kind, wait=True)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the indexes that begin with the prefix, in order."""
        with self._call("names", prefix):
            names = [each.name for each in self._client.get_collections().collections]
        return sorted(name for name in names if name.startswith(prefix))

    def drop(self, name: str) -> None:
        """Delete the index; one that is not there is no failure."""
        with suppress(NotFoundError), self._call("drop", name):
            self._client.delete_collection(name)

    def upsert(
        self, name: str, ids: Sequence[UUID], vectors: Vectors, payloads: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write points, float32 of shape (n, dimensions), replacing those with the same id.

        Searchable when this returns. Written in batches: after a failure some are there, and doing it again
        is harmless.
        """
        from qdrant_client import models

        if vectors.ndim != 2 or not len(ids) == len(vectors) == len(payloads):  # noqa: PLR2004 - rows, columns
            raise InvalidInputError(
                f"ids ({len(ids)}), vectors {vectors.shape} and payloads ({len(payloads)}) must be as many"
            )
        for start in range(0, len(ids), self.options.upsert_batch):
            part = slice(start, start + self.options.upsert_batch)
            batch = models.Batch(
                ids=[str(each) for each in ids[part]],
                vectors=vectors[part].tolist(),
                payloads=[dict(each) for each in payloads[part]],
            )
            with self._call("upsert", name):
                self._client.upsert(name, points=batch, wait=True)
            UPSERT_POINTS.observe(len(ids[part]))

    def payloads(self, name: str, ids: Iterable[UUID]) -> dict[UUID, Payload]:
        """Return the payloads of those of the points that are there; an unknown index holds none."""
        wanted = [str(each) for each in ids]
        found: dict[UUID, Payload] = {}
        for start in range(0, len(wanted), self.options.upsert_batch):
            part = wanted[start : start + self.options.upsert_batch]
            with suppress(NotFoundError), self._call("payloads", name):
                records = self._client.retrieve(name, part, with_payload=True, with_vectors=False)
                found |= {UUID(str(record.id)): record.payload or {} for record in records}
        return found

    def replace_payloads(self, name: str, payloads: Mapping[UUID, Mapping[str, Any]]) -> None:
        """Replace the payloads of points, which keep their vectors."""
        changes = wire.payload_changes(payloads)
        for start in range(0, len(changes), self.options.upsert_batch):
            part = changes[start : start + self.options.upsert_batch]
            with self._call("replace_payloads", name):
                self._client.batch_update_points(name, part, wait=True)

    def delete_items(self, name: str, item_ids: Iterable[int], *, keep: Iterable[UUID] = ()) -> None:
        """Delete every point of these items but those in `keep`; an unknown index holds none."""
        pending, kept = tuple(item_ids), tuple(keep)
        for start in range(0, len(pending), _DELETE_AT_ONCE):
            condition = wire.all_of(items(pending[start : start + _DELETE_AT_ONCE]))
            if kept:
                condition.must_not = wire.one_of_ids(kept)
            with suppress(NotFoundError), self._call("delete_items", name):
                self._client.delete(name, points_selector=condition, wait=True)

    def delete_points(self, name: str, ids: Iterable[UUID]) -> None:
        """Delete points; those that are not there, and an unknown index, are no fault."""
        with suppress(NotFoundError), self._call("delete_points", name):
            self._client.delete(name, points_selector=[str(each) for each in ids], wait=True)

    def count(self, name: str, filters: Filters | None = None) -> int:
        """Return how many points there are, exactly."""
        with self._call("count", name):
            return self._client.count(name, count_filter=wire.condition(filters), exact=True).count

    def search(
        self,
        name: str,
        vector: Vectors,
        *,
        limit: int,
        offset: int = 0,
        score_threshold: float | None = None,
        filters: Filters | None = None,
        exact: bool = False,
        hnsw_ef: int | None = None,
    ) -> list[Hit]:
        """Return the points nearest to a vector of shape (dimensions,), best first."""
        with self._call("search", name):
            answer = self._client.query_points(
                name,
                query=vector.tolist(),
                query_filter=wire.condition(filters),
                search_params=wire.search_params(exact=exact, hnsw_ef=hnsw_ef),
                limit=limit,
                offset=offset,
                score_threshold=score_threshold,
                with_payload=True,
            )
        return [_hit(point) for point in answer.points]

    def search_groups(  # noqa: PLR0913 - each is one thing a user can set
        self,
        name: str,
        vector: Vectors,
        *,
        limit: int,
        group_by: str = "item_id",
        group_size: int = 3,
        score_threshold: float | None = None,
        filters: Filters | None = None,
        exact: bool = False,
        hnsw_ef: int | None = None,
    ) -> list[HitGroup]:
        """Return the `limit` best groups (documents, by default), each with its best hits."""
        with self._call("search_groups", name):
            answer = self._client.query_points_groups(
                name,
                group_by=group_by,
                query=vector.tolist(),
                query_filter=wire.condition(filters),
                search_params=wire.search_params(exact=exact, hnsw_ef=hnsw_ef),
                limit=limit,
                group_size=group_size,
                score_threshold=score_threshold,
                with_payload=True,
            )
        return [HitGroup(group.id, tuple(_hit(hit) for hit in group.hits)) for group in answer.groups]

    def scroll(
        self,
        name: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: bool = False,
        filters: Filters | None = None,
    ) -> Page:
        """Return a page of points in the order of ids; `cursor` comes from the page before."""
        with self._call("scroll", name):
            records, following = self._client.scroll(
                name,
                scroll_filter=wire.condition(filters),
                limit=limit,
                offset=cursor,
                with_payload=True,
                with_vectors=with_vectors,
            )
        return Page(
            tuple(_point(record) for record in records), None if following is None else str(following)
        )

    def stream_vectors(
        self, name: str, *, batch: int = 1000
    ) -> Iterator[tuple[list[UUID], Vectors, list[Payload]]]:
        """Yield all points as (ids, float32 of shape (n, dimensions), payloads), n ≤ batch at a time.

        Memory stays within a few batches. Points written meanwhile may or may not be among them.
        """
        cursor = None
        while True:
            page = self.scroll(name, limit=batch, cursor=cursor, with_vectors=True)
            found = [(point.id, point.vector, point.payload) for point in page.points]
            vectors = [vector for _, vector, _ in found if vector is not None]
            if vectors:
                yield [each for each, _, _ in found], np.stack(vectors), [payload for _, _, payload in found]
            cursor = page.cursor
            if cursor is None:
                return

    def get_vector(self, name: str, point_id: UUID) -> Vectors:
        """Return one vector, float32 of shape (dimensions,); NotFoundError for an unknown point too."""
        with self._call("get_vector", name):
            found = self._client.retrieve(name, [str(point_id)], with_payload=False, with_vectors=True)
        vector = _point(found[0]).vector if found else None
        if vector is None:
            raise NotFoundError(f"There is no point {point_id} in vector index {name}")
        return vector

    def ping(self) -> None:
        """Return when Qdrant answers and takes our key."""
        with self._call("ping", "ping"):
            self._client.collection_exists("ping")

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            if self._made is not None and self._made[0] == getpid():
                self._made[1].close()
            self._made = None

    @property
    def _client(self) -> QdrantClient:
        """The client of this process: connections made before a fork are left to the parent."""
        made = self._made
        if made is None or made[0] != getpid():
            with self._lock:
                if self._made is None or self._made[0] != getpid():
                    self._made = (getpid(), self._connect())
                made = self._made
        return made[1]

    def _connect(self) -> QdrantClient:
        return wire.connect(
            self.options.url,
            api_key=self.options.api_key,
            timeout_seconds=self.options.timeout_seconds,
            pool_size=self.options.pool_size,
        )

    @contextmanager
    def _call(self, operation: str, name: str) -> Iterator[None]:
        with wire.failures(self.options.url, name), call("qdrant", operation, index=name):
            yield


def _hit(point: Any) -> Hit:
    return Hit(UUID(str(point.id)), float(point.score), point.payload or {})


def _point(record: Any) -> Point:
    vector = None if record.vector is None else np.asarray(record.vector, dtype=np.float32)
    return Point(UUID(str(record.id)), record.payload or {}, vector)
