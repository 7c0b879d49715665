"""Runs of collection and dataset transforms on the wire."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, RootModel

from app.services.paging import Page
from app.services.transform_runs import TransformRun


class CollectionRunPath(BaseModel):
    """Names a run of a collection transform."""

    collection_transform_id: int
    run_id: str


class DatasetRunPath(BaseModel):
    """Names a run of a dataset transform."""

    dataset_transform_id: int
    run_id: str


class TransformRunReply(RootModel[TransformRun]):
    """One run."""


class TransformRunList(BaseModel):
    """A page of runs, newest first."""

    items: list[TransformRun]
    total_count: int
    limit: int
    offset: int
    next_cursor: str | None = None

    @classmethod
    def of(cls, page: Page[TransformRun]) -> Self:
        """From a page of the service."""
        return cls(
            items=list(page.items),
            total_count=page.total_count,
            limit=page.limit,
            offset=page.offset,
            next_cursor=page.next_cursor,
        )
