"""Contracts: the typed arguments of every kind of job. Ids only, never secrets or text.

A contract is what `app` and `tasks` agree on: services record it (outbox), an actor of the same `kind`
carries it out. Fields are added with a default, never renamed: messages outlive releases.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from app.errors import InvalidInputError
from app.ids import sha256_hex

COLLECTIONS, DATASETS, VISUALIZATIONS = (
    "collection-transforms",
    "dataset-transforms",
    "visualization-transforms",
)
_KEY_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Contract:
    """Base of all contracts. `unique_key` names the work: one active job per (kind, unique_key)."""

    kind: ClassVar[str]
    queue: ClassVar[str]
    scope_kind: ClassVar[str | None] = None
    # Asked for while it ran, it runs again after a pause in which more may be asked for.
    again_after_seconds: ClassVar[float] = 0.0
    held: ClassVar[bool] = False  # comes by the thousand: waits in Postgres for its turn (jobs/admission)
    # Computes in the worker itself: among many the single run of another owner goes first (jobs/courtesy).
    makes_way: ClassVar[bool] = False

    @property
    def unique_key(self) -> str:
        """By default all arguments in order; a digest where they would not fit an index entry."""
        key = ":".join(str(value) for value in asdict(self).values())
        return key if len(key) <= _KEY_LENGTH else sha256_hex(key.encode())

    @property
    def scope_id(self) -> int | None:
        """The id of the standing thing this job serves, for progress."""
        return None

    def arguments(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlanCollectionTransform(Contract):
    """Find the files that a collection transform has not done in their present version."""

    kind = "plan_collection_transform"
    queue = COLLECTIONS
    scope_kind = "collection_transform"

    collection_transform_id: int

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.collection_transform_id


@dataclass(frozen=True, slots=True)
class ExtractFile(Contract):
    """Extract and chunk one version of one file."""

    kind = "extract_file"
    queue = COLLECTIONS
    scope_kind = "collection_transform"
    held = True
    makes_way = True

    collection_transform_id: int
    file_id: int
    file_version: int

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.collection_transform_id


@dataclass(frozen=True, slots=True)
class PlanDatasetTransform(Contract):
    """Find the items that an embedded dataset does not hold in their present content."""

    kind = "plan_dataset_transform"
    queue = DATASETS
    scope_kind = "dataset_transform"
    again_after_seconds = 0.5  # each file of a crowd asks for it: few plans of many items, not the other way

    dataset_transform_id: int

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.dataset_transform_id


@dataclass(frozen=True, slots=True)
class EmbedItems(Contract):
    """Embed the chunks of some items into one vector index; `batch` is derived from their content."""

    kind = "embed_items"
    queue = DATASETS
    scope_kind = "embedded_dataset"
    held = True

    embedded_dataset_id: int
    batch: str
    item_ids: tuple[int, ...]

    @property
    def unique_key(self) -> str:
        """The same items with the same content are the same work."""
        return f"{self.embedded_dataset_id}:{self.batch}"

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.embedded_dataset_id


@dataclass(frozen=True, slots=True)
class BuildVisualization(Contract):
    """Compute the map of one visualization row."""

    kind = "build_visualization"
    queue = VISUALIZATIONS
    scope_kind = "visualization_transform"

    visualization_id: int
    visualization_transform_id: int

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.visualization_transform_id


@dataclass(frozen=True, slots=True)
class DeleteObjects(Contract):
    """Delete stored objects whose rows are gone."""

    kind = "delete_objects"
    queue = COLLECTIONS

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropVectorIndex(Contract):
    """Drop the vector index of a deleted embedded dataset."""

    kind = "drop_vector_index"
    queue = DATASETS

    collection_name: str


@dataclass(frozen=True, slots=True)
class DeleteItemVectors(Contract):
    """Delete the vectors of items that are gone from a dataset."""

    kind = "delete_item_vectors"
    queue = DATASETS
    scope_kind = "embedded_dataset"

    embedded_dataset_id: int
    item_ids: tuple[int, ...]

    @property
    def scope_id(self) -> int:
        """See Contract."""
        return self.embedded_dataset_id


CONTRACTS: dict[str, type[Contract]] = {
    contract.kind: contract
    for contract in (
        PlanCollectionTransform,
        ExtractFile,
        PlanDatasetTransform,
        EmbedItems,
        BuildVisualization,
        DeleteObjects,
        DropVectorIndex,
        DeleteItemVectors,
    )
}


def decode(kind: str, arguments: dict[str, Any]) -> Contract:
    """The contract of a job row; raises InvalidInputError when the kind or a field is unknown."""
    if kind not in CONTRACTS:
        raise InvalidInputError(f"no contract of kind {kind!r}; was this job written by a newer release?")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        return CONTRACTS[kind](**plain)
    except TypeError as error:
        raise InvalidInputError(f"arguments of {kind} do not fit: {error}") from None
