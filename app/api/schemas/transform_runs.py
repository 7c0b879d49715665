"""Runs of collection and dataset transforms on the wire."""

from __future__ import annotations

from pydantic import BaseModel, RootModel

from app.api.schemas.base import PageReply
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


class TransformRunList(PageReply):
    """A page of runs, newest first."""

    items: list[TransformRun]
