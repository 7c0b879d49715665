"""Standalone embedded datasets: vectors are pushed from outside, and no transform keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import InvalidInputError, NotFoundError
from app.security.principal import Principal
from app.services.described import check_title
from app.services.embedded_datasets import EmbeddedDatasets, EmbeddedDatasetView
from app.services.reading import Passage
from app.services.search_passages import pushed_text
from app.storage.postgres.queries.owned import held, owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbeddedDataset, EmbedderRow, VisualizationTransform
from app.storage.qdrant import VectorStore

MOST_DIMENSIONS, MOST_POINTS, PAYLOAD_BYTES = 65_536, 1000, 64 * 1024
_MOST_SHOWN = 50
_ITEM_ID_BITS = 53  # what every reader of JSON keeps exactly


@dataclass(frozen=True, slots=True)
class PushedPoint:
    """A vector from outside. Pushed again with its `id`, a UUID, it replaces what was there."""

    id: str
    vector: Sequence[float]
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PushedVectors:
    """How many points were written, and into which vector index."""

    points_inserted: int
    collection_name: str


@dataclass(frozen=True, slots=True)
class SearchableByWords:
    """A standalone one whose embedder is known: words can be embedded as its vectors were."""

    embedded_dataset_id: int
    title: str
    embedder_name: str


@dataclass(frozen=True, slots=True)
class Unmapped:
    """One of which nobody has had a map drawn yet."""

    embedded_dataset_id: int
    title: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Standalone:
    """Verbs on standalone embedded datasets; reading, renaming and deleting are those of all others."""

    database: Database
    vectors: VectorStore
    embedded_datasets: EmbeddedDatasets

    def create(
        self, principal: Principal, *, title: str, dimensions: int, embedder_id: int | None = None
    ) -> EmbeddedDatasetView:
        """Make an empty one; `embedder_id` names what made its vectors, so that words can be searched.

        Raises InvalidInputError, and NotFoundError for an embedder that is not the owner's.
        """
        named = check_title(title)
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise InvalidInputError(
                f"dimensions must lie between 1 and {MOST_DIMENSIONS}", field="dimensions"
            )
        with self.database.transaction() as session:
            if embedder_id is not None:
                embedder = owned(
                    session, EmbedderRow, embedder_id, principal.owner_id, field="embedder_id", lock=True
                )
                _refuse_another_length(embedder, dimensions)
            row = EmbeddedDataset(
                owner_id=principal.owner_id,
                title=named,
                embedder_id=embedder_id,
                collection_name=f"embedded-dataset-{uuid4().hex}",
                dimensions=dimensions,
            )
            session.add(row)
            session.flush()
            made = row.embedded_dataset_id
        return self.embedded_datasets.get(principal, made)

    def searchable(self, principal: Principal) -> tuple[SearchableByWords, ...]:
        """The owner's that name their embedder, newest first, at most 50."""
        wanted = (
            select(EmbeddedDataset.embedded_dataset_id, EmbeddedDataset.title, EmbedderRow.name)
            .join(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
            .where(
                EmbeddedDataset.owner_id == principal.owner_id, EmbeddedDataset.dataset_transform_id.is_(None)
            )
            .order_by(EmbeddedDataset.embedded_dataset_id.desc())
            .limit(_MOST_SHOWN)
        )
        with self.database.reading() as connection:
            return tuple([SearchableByWords(*row) for row in connection.execute(wanted)])

    def unmapped(self, principal: Principal) -> tuple[Unmapped, ...]:
        """The owner's that no visualization transform draws, newest first, at most 50."""
        drawn = select(VisualizationTransform.embedded_dataset_id)
        wanted = (
            select(EmbeddedDataset.embedded_dataset_id, EmbeddedDataset.title, EmbeddedDataset.dimensions)
            .where(
                EmbeddedDataset.owner_id == principal.owner_id,
                EmbeddedDataset.dataset_transform_id.is_(None),
                EmbeddedDataset.embedded_dataset_id.not_in(drawn),
            )
            .order_by(EmbeddedDataset.embedded_dataset_id.desc())
            .limit(_MOST_SHOWN)
        )
        with self.database.reading() as connection:
            return tuple([Unmapped(*row) for row in connection.execute(wanted)])

    def push(
        self, principal: Principal, embedded_dataset_id: int, points: Sequence[PushedPoint]
    ) -> PushedVectors:
        """Write points, those with a known id anew; all are checked before the first is written.

        After UnavailableError some may be there: to push them again is harmless. Raises NotFoundError, and
        InvalidInputError that names the point and the rule.
        """
        ids = _checked_ids(points)
        payloads = [
            _payload(place, point_id, point.payload, principal.owner_id)
            for place, (point_id, point) in enumerate(zip(ids, points, strict=True))
        ]
        with self.database.transaction() as session:
            row = self._held(session, principal, embedded_dataset_id)
            vectors = _matrix(points, row.dimensions)
            self.vectors.ensure_index(row.collection_name, row.dimensions)
            self.vectors.upsert(row.collection_name, ids, vectors, payloads)
            return PushedVectors(len(ids), row.collection_name)

    def passages(
        self, principal: Principal, embedded_dataset_id: int, point_ids: Sequence[UUID]
    ) -> list[Passage]:
        """What was pushed with these points, in their order and without those that are gone.

        Raises NotFoundError, UnavailableError.
        """
        with self.database.transaction() as session:
            row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
        found = self.vectors.payloads(row.collection_name, point_ids) if row.is_standalone else {}
        return [_passage(key, found[key]) for key in point_ids if key in found]

    def delete_point(self, principal: Principal, embedded_dataset_id: int, point_id: UUID) -> None:
        """Delete one point. Raises NotFoundError, InvalidInputError, UnavailableError."""
        with self.database.transaction() as session:
            index = self._held(session, principal, embedded_dataset_id).collection_name
            if not self.vectors.payloads(index, [point_id]):
                raise NotFoundError(f"no point {point_id}")
            self.vectors.delete_points(index, [point_id])

    def _held(self, session: Session, principal: Principal, embedded_dataset_id: int) -> EmbeddedDataset:
        """The row, kept while its vectors change: a deletion drops the index after this or came before."""
        row = held(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id)
        if not row.is_standalone:
            raise InvalidInputError(
                f"embedded dataset {embedded_dataset_id} is kept by a dataset transform; "
                "vectors can be pushed and deleted only in a standalone one"
            )
        return row


def _passage(point_id: UUID, payload: Mapping[str, Any]) -> Passage:
    title, page = payload.get("item_title"), payload.get("page")
    return Passage(
        chunk_id=point_id,
        item_id=None,
        item_title=title if isinstance(title, str) and title else "A pushed vector",
        text=pushed_text(payload) or "",
        page=page if type(page) is int else None,
        heading_path=(),
        position=0,
    )


def _refuse_another_length(embedder: EmbedderRow, dimensions: int) -> None:
    if embedder.dimensions != dimensions:
        raise InvalidInputError(
            f"dimensions must be {embedder.dimensions}, as embedder {embedder.embedder_id} makes them, "
            f"not {dimensions}",
            field="dimensions",
        )


def _checked_ids(points: Sequence[PushedPoint]) -> list[UUID]:
    if not 1 <= len(points) <= MOST_POINTS:
        raise InvalidInputError(f"points must hold 1 to {MOST_POINTS} points", field="points")
    ids: dict[UUID, None] = {}  # in order
    for place, point in enumerate(points):
        try:
            point_id = UUID(point.id)
        except ValueError:
            raise _wrong(place, "id", f"must be a UUID, not {point.id[:50]!r}") from None
        if point_id in ids:
            raise _wrong(place, "id", f"{point_id} is there twice")
        ids[point_id] = None
    return list(ids)


def _payload(place: int, point_id: UUID, pushed: Mapping[str, Any], owner_id: str) -> dict[str, Any]:
    """What was sent, under the owner's name. A point that names no item is an item of its own."""
    size = len(json.dumps(dict(pushed), ensure_ascii=False).encode())
    if size > PAYLOAD_BYTES:
        raise _wrong(place, "payload", f"must have at most {PAYLOAD_BYTES} bytes as JSON, not {size}")
    item_id = pushed.get("item_id", point_id.int >> (128 - _ITEM_ID_BITS))
    if type(item_id) is not int or not 0 <= item_id < 1 << _ITEM_ID_BITS:
        raise _wrong(place, "payload.item_id", f"must be an integer from 0 to 2**{_ITEM_ID_BITS} - 1")
    return {**pushed, "item_id": item_id, "owner_id": owner_id}


def _matrix(points: Sequence[PushedPoint], dimensions: int) -> NDArray[np.float32]:
    """The vectors, float32 of shape (points, dimensions); raises InvalidInputError for the first wrong."""
    for place, point in enumerate(points):
        if len(point.vector) != dimensions:
            raise _wrong(place, "vector", f"must have {dimensions} numbers, not {len(point.vector)}")
    with np.errstate(over="ignore"):
        vectors = np.asarray([point.vector for point in points], dtype=np.float32)
    for rule, broken in (
        ("must hold finite numbers of single precision", ~np.isfinite(vectors).all(axis=1)),
        ("must point somewhere: all its numbers are 0", ~vectors.any(axis=1)),
    ):
        if broken.any():
            raise _wrong(int(broken.argmax()), "vector", rule)
    return vectors


def _wrong(place: int, name: str, rule: str) -> InvalidInputError:
    field = f"points.{place}.{name}"
    return InvalidInputError(f"{field} {rule}", field=field)
