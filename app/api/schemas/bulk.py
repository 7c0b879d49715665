"""Many things at once on the wire."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, RootModel

from app.api.schemas.base import Body
from app.services.bulk import MOST_AT_ONCE, BulkOutcome

Deletable = Literal[
    "collections",
    "files",
    "datasets",
    "items",
    "embedded-datasets",
    "embedders",
    "llms",
    "collection-transforms",
    "dataset-transforms",
    "visualization-transforms",
    "visualizations",
    "chat-sessions",
]
Triggerable = Literal["collection-transforms", "dataset-transforms", "visualization-transforms"]


class BulkDelete(Body):
    """What to delete."""

    kind: Deletable
    ids: list[int] = Field(min_length=1, max_length=MOST_AT_ONCE)


class BulkTrigger(Body):
    """Which transforms to start."""

    kind: Triggerable
    ids: list[int] = Field(min_length=1, max_length=MOST_AT_ONCE)


class BulkReply(RootModel[BulkOutcome]):
    """What became of each."""
