"""/api/datasets/{id}/items, /api/items and /api/chunks."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.guard import takes_bytes
from app.api.identifiers import uuid_of
from app.api.replies import nothing, reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.items import (
    ChunkList,
    ChunkPath,
    ChunkQuery,
    ChunkReply,
    ChunksQuery,
    ItemChunksList,
    ItemList,
    ItemPath,
    ItemReply,
    ItemsPath,
    ItemsQuery,
    ItemTextReply,
    OneItemPath,
    PushedReply,
    PushItems,
)
from app.security.marks import budget
from app.services.items import ItemView, PushedChunk, PushedItem
from app.services.paging import Page

PUSH_BYTES = 32 * 1024 * 1024
_SHOWN_CHUNKS = 100

api = APIBlueprint(
    "items", __name__, url_prefix="/api", abp_tags=[Tag(name="Items and chunks")], abp_responses=PROBLEMS
)
_ITEMS = "/datasets/<int:dataset_id>/items"


@api.post(_ITEMS, responses={200: PushedReply})
@takes_bytes(PUSH_BYTES)
@budget("upload")
def push_items(path: ItemsPath, body: PushItems) -> Response:
    """Write documents by title, replacing those that are there; their embedding is planned."""
    items = [
        PushedItem(
            title=item.title,
            chunks=[PushedChunk(chunk.content, chunk.metadata) for chunk in item.chunks],
            metadata=item.metadata,
        )
        for item in body.items
    ]
    return reply(PushedReply(services().items.push(me(), path.dataset_id, items)))


@api.get(_ITEMS, responses={200: ItemChunksList})
def list_items(path: ItemsPath, query: ItemsQuery) -> Response:
    """List items with their first 100 chunks each."""
    page = _items(path, query)
    return reply(
        ItemChunksList(
            items=list(services().items.with_chunks(me(), page.items, most=_SHOWN_CHUNKS)),
            page=query.page,
            page_size=query.page_size,
            total_count=page.total_count,
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
    )


@api.get("/datasets/<int:dataset_id>/items-summary", responses={200: ItemList})
def list_item_summaries(path: ItemsPath, query: ItemsQuery) -> Response:
    """List items without their chunks."""
    page = _items(path, query)
    return reply(
        ItemList(
            items=list(page.items),
            page=query.page,
            page_size=query.page_size,
            total_count=page.total_count,
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
    )


@api.get(f"{_ITEMS}/<int:item_id>/chunks", responses={200: ChunkList})
def list_chunks(path: ItemPath, query: ChunksQuery) -> Response:
    """List an item's chunks in reading order."""
    page = services().items.chunks(
        me(),
        path.item_id,
        dataset_id=path.dataset_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
    )
    return reply(ChunkList.of(page))


@api.delete(f"{_ITEMS}/<int:item_id>", responses={204: None})
def delete_item(path: ItemPath) -> Response:
    """Delete an item with its chunks and vectors."""
    services().items.delete(me(), path.item_id, dataset_id=path.dataset_id)
    return nothing()


@api.get("/items/<int:item_id>", responses={200: ItemReply})
def get_item(path: OneItemPath) -> Response:
    """Read one item."""
    return reply(ItemReply(services().items.get(me(), path.item_id)))


@api.get("/items/<int:item_id>/text", responses={200: ItemTextReply})
def get_item_text(path: OneItemPath) -> Response:
    """Read the whole text; the spans of its chunks index into it."""
    return reply(ItemTextReply(services().items.item_text(me(), path.item_id)))


@api.get("/chunks/<chunk_id>", responses={200: ChunkReply})
def get_chunk(path: ChunkPath, query: ChunkQuery) -> Response:
    """Read a passage with its document and the text around it."""
    key = uuid_of(path.chunk_id, "chunk")
    return reply(ChunkReply(services().items.chunk(me(), key, context_chars=query.context_chars)))


def _items(path: ItemsPath, query: ItemsQuery) -> Page[ItemView]:
    return services().items.list(
        me(),
        path.dataset_id,
        limit=query.page_size,
        offset=(query.page - 1) * query.page_size,
        cursor=query.cursor,
        search=query.search,
    )
