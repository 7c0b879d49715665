"""Items and chunks on the wire."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject, KeyedWindow, PageReply, QueryString
from app.services.items import ChunkInItem, ChunkView, ItemText, ItemView, ItemWithChunks, Pushed


class ItemsPath(BaseModel):
    """Names a dataset."""

    dataset_id: int


class ItemPath(BaseModel):
    """Names an item of a dataset."""

    dataset_id: int
    item_id: int


class OneItemPath(BaseModel):
    """Names an item."""

    item_id: int


class ChunkPath(BaseModel):
    """Names a chunk."""

    chunk_id: str


class ItemsQuery(QueryString):
    """Which page of the items, the first is 1; or what follows the page whose `next_cursor` is given."""

    page: int = Field(1, ge=1, le=10_000_000)
    page_size: int = Field(10, ge=1, le=100)
    cursor: str | None = Field(None, max_length=2048)
    search: str | None = Field(None, max_length=256)


class ChunksQuery(KeyedWindow):
    """Which chunks."""

    limit: int = Field(100, ge=1, le=1000)


class ChunkQuery(QueryString):
    """How much of the text around a chunk."""

    context_chars: int = Field(600, ge=0, le=20_000)


class PushedChunkBody(Body):
    """A passage."""

    content: str
    metadata: JsonObject = Field(default_factory=dict)


class PushedItemBody(Body):
    """A document; the title names it within the dataset."""

    title: str
    chunks: list[PushedChunkBody] = Field(max_length=100_000)
    metadata: JsonObject = Field(default_factory=dict)


class PushItems(Body):
    """Documents to write."""

    items: list[PushedItemBody] = Field(min_length=1, max_length=10_000)


class PushedReply(RootModel[Pushed]):
    """How many were written."""


class ItemList(BaseModel):
    """A page of items."""

    items: list[ItemView]
    page: int
    page_size: int
    total_count: int
    has_more: bool
    next_cursor: str | None = None


class ItemChunksList(BaseModel):
    """A page of items, each with its first 100 chunks."""

    items: list[ItemWithChunks]
    page: int
    page_size: int
    total_count: int
    has_more: bool
    next_cursor: str | None = None


class ChunkList(PageReply):
    """A page of chunks in reading order."""

    rows = "chunks"
    chunks: list[ChunkView]


class ItemReply(RootModel[ItemView]):
    """One item."""


class ItemTextReply(RootModel[ItemText]):
    """An item with its whole text."""


class ChunkReply(RootModel[ChunkInItem]):
    """A chunk with its document and the text around it."""
