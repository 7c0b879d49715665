"""Whose things a job is about to touch: a worker acts for the job's owner and for nobody else.

Services write jobs for things of one owner. One that names another's was changed, or written by somebody
else, and a worker that followed it would carry data over the wall between tenants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import ForbiddenError
from app.jobs.contracts import CONTRACTS
from app.storage.postgres.tables import (
    CollectionTransform,
    DatasetTransform,
    EmbeddedDataset,
    VisualizationTransform,
)

# Of each kind of scope: whose it is, and its id.
_SCOPES = {
    "collection_transform": (CollectionTransform.owner_id, CollectionTransform.collection_transform_id),
    "dataset_transform": (DatasetTransform.owner_id, DatasetTransform.dataset_transform_id),
    "embedded_dataset": (EmbeddedDataset.owner_id, EmbeddedDataset.embedded_dataset_id),
    "visualization_transform": (
        VisualizationTransform.owner_id,
        VisualizationTransform.visualization_transform_id,
    ),
}


def foreign_scope(
    session: Session, kind: str, arguments: Mapping[str, Any], owner_id: str | None
) -> ForbiddenError | None:
    """The error with which a job ends whose scope belongs to another owner; None for all other jobs."""
    scope = CONTRACTS[kind].scope_kind if kind in CONTRACTS else None
    if scope is None:
        return None
    owner, identity = _SCOPES[scope]
    key = arguments.get(f"{scope}_id")
    found = session.scalar(select(owner).where(identity == key))
    if found is None or found == owner_id:
        return None
    return ForbiddenError(f"the job's owner is not the owner of {scope.replace('_', ' ')} {key}")
