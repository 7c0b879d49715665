"""One name, one complete pipeline: collection, dataset, embedder, the transforms between them, and a map.

Every step looks for what is there before it makes something, so that a call that was cut short is
finished by the next one with the same title.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import ConflictError, NotFoundError
from app.security.principal import Principal
from app.services.collection_transforms import CollectionTransforms
from app.services.collections import Collections
from app.services.dataset_transforms import DatasetTransforms
from app.services.datasets import Datasets
from app.services.described import check_title
from app.services.embedded_datasets import EmbeddedDatasets
from app.services.embedders import Embedders
from app.services.overview import CollectionOverview, Overview
from app.services.visualization_transforms import VisualizationTransforms

_MOST = 1000


@dataclass(frozen=True, slots=True)
class Pile:
    """The ids of what `create` made or found."""

    collection_id: int
    dataset_id: int
    collection_transform_id: int
    embedder_id: int
    dataset_transform_id: int
    embedded_dataset_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quickstart:
    """Verbs that set up what most people want."""

    collections: Collections
    datasets: Datasets
    collection_transforms: CollectionTransforms
    embedders: Embedders
    dataset_transforms: DatasetTransforms
    visualization_transforms: VisualizationTransforms
    overview: Overview
    embedded_datasets: EmbeddedDatasets

    def create(self, principal: Principal, *, title: str, details: str | None = None) -> Pile:
        """Make the pipeline of that title, or what is missing of it; raises InvalidInputError."""
        name = check_title(title)
        collection_id = self._collection(principal, name, details)
        before = self.overview.collection(principal, collection_id)
        dataset_id, transform_id = self._dataset(principal, name, before)
        after = self.overview.collection(principal, collection_id)
        if after.embedded:
            return Pile(
                collection_id,
                dataset_id,
                transform_id,
                self._embedder(principal),
                after.embedded[0].dataset_transform_id,
                tuple(one.embedded_dataset_id for one in after.embedded),
            )
        embedder_id = self._embedder(principal)
        made = self.dataset_transforms.create(
            principal, title=name, source_dataset_id=dataset_id, embedder_ids=[embedder_id]
        )
        return Pile(
            collection_id,
            dataset_id,
            transform_id,
            embedder_id,
            made.dataset_transform_id,
            tuple(made.embedded_dataset_ids),
        )

    def build_map(self, principal: Principal, collection_id: int) -> int:
        """Start a map of the collection's first embedded dataset; the id of its visualization transform.

        Makes the transform at the first call and runs it again after that. Raises NotFoundError, and
        ConflictError while nothing is embedded yet.
        """
        found = self.overview.collection(principal, collection_id)
        source = next((one for one in found.embedded if one.passages.done), None)
        if source is None:
            raise ConflictError("nothing of this collection is embedded yet: add files, then wait a little")
        for one in found.maps:
            if one.embedded_dataset_id == source.embedded_dataset_id:
                if not one.is_building:
                    self.visualization_transforms.trigger(principal, one.visualization_transform_id)
                return one.visualization_transform_id
        made = self.visualization_transforms.create(
            principal, title=found.title, embedded_dataset_id=source.embedded_dataset_id
        )
        return made.visualization_transform_id

    def map_pushed(self, principal: Principal, embedded_dataset_id: int) -> int:
        """Start the first map of what was pushed from outside; the id of its visualization transform.

        One that there is already is left as it is. Raises NotFoundError, and ConflictError while nothing
        was pushed.
        """
        for _, one in self.overview.standalone_maps(principal):
            if one.embedded_dataset_id == embedded_dataset_id:
                return one.visualization_transform_id
        found = self.embedded_datasets.get(principal, embedded_dataset_id)
        if not found.is_standalone:
            raise NotFoundError(f"nothing is pushed into embedded dataset {embedded_dataset_id}")
        if not self.embedded_datasets.stats(principal, embedded_dataset_id).chunks_total:
            raise ConflictError(f"nothing was pushed into {found.title} yet: push vectors first")
        made = self.visualization_transforms.create(
            principal, title=found.title, embedded_dataset_id=embedded_dataset_id
        )
        return made.visualization_transform_id

    def _collection(self, principal: Principal, title: str, details: str | None) -> int:
        same = self.collections.list(principal, limit=_MOST, search=title)
        for one in same.items:
            if one.title == title and one.owner_id == principal.owner_id:
                return one.collection_id
        return self.collections.create(principal, title=title, details=details).collection_id

    def _dataset(self, principal: Principal, title: str, found: CollectionOverview) -> tuple[int, int]:
        if found.transform_ids:
            return found.dataset_ids[0], found.transform_ids[0]
        dataset = self.datasets.create(principal, title=title)
        transform = self.collection_transforms.create(
            principal, title=title, collection_id=found.collection_id, dataset_id=dataset.dataset_id
        )
        return dataset.dataset_id, transform.collection_transform_id

    def _embedder(self, principal: Principal) -> int:
        for one in self.embedders.list(principal, limit=_MOST).items:
            if one.provider == "local":
                return one.embedder_id
        return self.embedders.create(principal, {"provider": "local"}).embedder_id
