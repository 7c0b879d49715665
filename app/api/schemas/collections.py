"""Collections on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, Details, KeyedWindow, PageReply, Tags, Title
from app.services.collections import CollectionView
from app.services.progress import FileCounts


class CollectionPath(BaseModel):
    """Names a collection."""

    collection_id: int


class CollectionSearch(KeyedWindow):
    """Search in title, details and tags."""

    q: str = Field(max_length=256)
    limit: int = Field(10, ge=1, le=1000)


class CreateCollection(Body):
    """A new collection."""

    title: Title
    details: Details | None = None
    tags: Tags = Field(default_factory=list)
    is_public: bool = False


class UpdateCollection(Body):
    """What to change; what is missing stays."""

    title: Title = ""
    details: Details | None = None
    tags: Tags = Field(default_factory=list)
    is_public: bool = False


class CollectionReply(RootModel[CollectionView]):
    """One collection."""


class CollectionList(PageReply):
    """A page of collections."""

    rows = "collections"
    collections: list[CollectionView]


class FileCountsReply(RootModel[FileCounts]):
    """Files by state."""
