"""What the deletion of rows leaves outside Postgres, recorded as jobs in the deleting transaction.

Whoever works locks in one order: its own job, the transform, the file, items, the job of the next plan. So
a deletion holds the transforms before it deletes files under them, and plans only after it has deleted;
else Postgres would end one of the two, and now and then that would be the user's request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.jobs.contracts import DeleteObjects, DropVectorIndex, PlanDatasetTransform
from app.jobs.outbox import Outbox
from app.storage.postgres.tables import (
    CollectionTransform,
    Dataset,
    DatasetTransform,
    EmbeddedDataset,
    File,
    Visualization,
    VisualizationTransform,
)

_KEYS_PER_JOB = 200


@dataclass(frozen=True, slots=True)
class Removal:
    """Bound to one transaction and owner; call before the rows are deleted."""

    session: Session
    outbox: Outbox
    owner_id: str

    def files(self, which: ColumnElement[bool]) -> None:
        """The stored objects of these files go."""
        self.objects(self.session.scalars(select(File.object_key).where(which)).all())

    def embedded_datasets(self, which: ColumnElement[bool]) -> None:
        """The vector indexes of these embedded datasets go, and the maps drawn from them."""
        rows = self.session.execute(
            select(EmbeddedDataset.embedded_dataset_id, EmbeddedDataset.collection_name).where(which)
        ).all()
        drops = [DropVectorIndex(row.collection_name) for row in rows]
        self.outbox.record_many(self.session, drops, owner_id=self.owner_id)
        ids = [row.embedded_dataset_id for row in rows]
        self.visualization_transforms(VisualizationTransform.embedded_dataset_id.in_(ids))

    def visualization_transforms(self, which: ColumnElement[bool]) -> None:
        """The map files of these transforms go."""
        self.objects(
            self.session.scalars(
                select(Visualization.points_key)
                .join(
                    VisualizationTransform,
                    VisualizationTransform.visualization_transform_id
                    == Visualization.visualization_transform_id,
                )
                .where(which, Visualization.points_key.is_not(None))
            ).all()
        )

    def objects(self, keys: Sequence[str | None]) -> None:
        """Stored objects with these keys go."""
        present = [key for key in keys if key is not None]
        jobs = [DeleteObjects(part) for part in _parts(present)]
        self.outbox.record_many(self.session, jobs, owner_id=self.owner_id)

    def hold_transforms(self, which: ColumnElement[bool]) -> Sequence[int]:
        """Wait for the runs of these collection transforms, let none begin; returns their datasets."""
        held = select(CollectionTransform.dataset_id).where(which)
        ordered = held.order_by(CollectionTransform.collection_transform_id).with_for_update()
        return tuple(dict.fromkeys(self.session.scalars(ordered)))

    def replan(self, dataset_ids: Sequence[int]) -> None:
        """The datasets lost or gained items: their transforms compare anew, which deletes stale vectors."""
        # A transform that is made meanwhile (which locks the dataset) plans after this, or is seen below.
        datasets = select(Dataset.dataset_id).where(Dataset.dataset_id.in_(dataset_ids))
        held = datasets.order_by(Dataset.dataset_id).with_for_update(read=True, key_share=True)
        self.session.execute(held).all()
        ids = self.session.scalars(
            select(DatasetTransform.dataset_transform_id).where(
                DatasetTransform.source_dataset_id.in_(dataset_ids)
            )
        ).all()
        plans = [PlanDatasetTransform(key) for key in ids]
        self.outbox.record_many(self.session, plans, owner_id=self.owner_id)


def _parts(keys: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(keys), _KEYS_PER_JOB):
        yield tuple(keys[start : start + _KEYS_PER_JOB])
