"""Embedded datasets that stand alone: their vectors are made elsewhere and pushed here.

They can be listed, exported and mapped. They cannot be searched by words or chatted about, since nobody here
knows the model that would embed a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.errors import InvalidInputError
from app.ids import pushed_point_id
from app.security.principal import Principal
from app.services.described import check_title
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbeddedDataset
from app.storage.qdrant import Point, VectorStore

MOST_POINTS = 1000
MOST_DIMENSIONS = 65_536
# Our own members of a payload: whose point it is, and under which id it was pushed.
_OWNER, _GIVEN_ID = "owner_id", "_pushed_id"


@dataclass(frozen=True, slots=True)
class PushedPoint:
    """A vector as a client pushes it. `payload` is kept; maps name their topics by its `text`."""

    id: UUID
    vector: Sequence[float]
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PushedVectors:
    """How many were written, and to which vector index."""

    points_inserted: int
    collection_name: str


@dataclass(frozen=True, slots=True)
class PushingVectors:
    """Verbs on them."""

    database: Database
    vectors: VectorStore

    def create(self, principal: Principal, *, title: str, dimensions: int) -> int:
        """Make an empty one for vectors of so many numbers and return its id; raises InvalidInputError."""
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise InvalidInputError(
                f"dimensions must lie between 1 and {MOST_DIMENSIONS}", field="dimensions"
            )
        row = EmbeddedDataset(
            owner_id=principal.owner_id,
            title=check_title(title),
            collection_name=f"embedded-dataset-{uuid4().hex}",
            dimensions=dimensions,
        )
        with self.database.transaction() as session:
            session.add(row)
            session.flush()
            return row.embedded_dataset_id

    def push(
        self, principal: Principal, embedded_dataset_id: int, points: Sequence[PushedPoint]
    ) -> PushedVectors:
        """Write points, replacing those with the same id; again does no harm.

        Raises NotFoundError, InvalidInputError that names the first bad point (nothing is written then), and
        UnavailableError.
        """
        with self.database.transaction() as session:
            row = _standalone(session, principal, embedded_dataset_id)
            vectors = _checked(points, row.dimensions)
            index = row.collection_name
            self.vectors.ensure_index(index, row.dimensions)
            self.vectors.upsert(
                index,
                [pushed_point_id(index, point.id) for point in points],
                vectors,
                [_payload(principal, point) for point in points],
            )
        return PushedVectors(len(points), index)


def refuse_standalone(row: EmbeddedDataset, what: str, *, field: str) -> None:
    """Raises InvalidInputError for one whose model nobody here knows."""
    if row.is_standalone:
        raise InvalidInputError(
            f"embedded dataset {row.embedded_dataset_id} holds vectors that were pushed: it cannot be "
            f"{what}, because the model that made them is not known here",
            field=field,
        )


def shown_id(point: Point) -> UUID:
    """The id under which its owner knows a point."""
    return given_id(point.id, point.payload)


def given_id(point_id: UUID, payload: Mapping[str, Any]) -> UUID:
    """The id that a stored point was pushed with, or its own."""
    given = payload.get(_GIVEN_ID)
    return UUID(given) if given else point_id


def shown_payload(point: Point) -> dict[str, Any]:
    """A point's payload without what is ours."""
    return {name: value for name, value in point.payload.items() if name not in {_OWNER, _GIVEN_ID}}


def _standalone(session: Session, principal: Principal, embedded_dataset_id: int) -> EmbeddedDataset:
    """Locked: a deletion waits, so that no index is filled that nothing names."""
    row = owned(session, EmbeddedDataset, embedded_dataset_id, principal.owner_id, lock=True)
    if not row.is_standalone:
        raise InvalidInputError(
            f"embedded dataset {embedded_dataset_id} is filled by its dataset transform: vectors can be "
            "pushed only to one made at /api/embedded-datasets/standalone"
        )
    return row


def _checked(points: Sequence[PushedPoint], dimensions: int) -> NDArray[np.float32]:
    """The numbers, float32 of shape (points, dimensions)."""
    if not 1 <= len(points) <= MOST_POINTS:
        raise InvalidInputError(f"points must hold 1 to {MOST_POINTS} points", field="points")
    for number, point in enumerate(points):
        if len(point.vector) != dimensions:
            raise InvalidInputError(
                f"points.{number}.vector must have {dimensions} numbers, not {len(point.vector)}",
                field=f"points.{number}.vector",
            )
    with np.errstate(over="ignore"):  # what float32 cannot hold is named below
        vectors = np.asarray([point.vector for point in points], dtype=np.float32)
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not usable.all():
        number = int(np.argmin(usable))
        raise InvalidInputError(
            f"points.{number}.vector must hold finite numbers of 32 bits, not all of them zero",
            field=f"points.{number}.vector",
        )
    return vectors


def _payload(principal: Principal, point: PushedPoint) -> dict[str, Any]:
    return {**point.payload, _OWNER: principal.owner_id, _GIVEN_ID: str(point.id)}
