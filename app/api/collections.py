"""/api/collections."""

from __future__ import annotations

from typing import cast

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS, KeyedSearchWindow, Message, SortedWindow
from app.api.schemas.collection_transforms import CollectionTransformList
from app.api.schemas.collections import (
    CollectionList,
    CollectionPath,
    CollectionReply,
    CollectionSearch,
    CreateCollection,
    FileCountsReply,
    UpdateCollection,
)
from app.services.collections import CollectionView
from app.services.described import DescribedChanges
from app.services.paging import Page

api = APIBlueprint(
    "collections",
    __name__,
    url_prefix="/api/collections",
    abp_tags=[Tag(name="Collections")],
    abp_responses=PROBLEMS,
)


@api.get("", responses={200: CollectionList})
def list_collections(query: KeyedSearchWindow) -> Response:
    """List the owner's collections."""
    page = services().collections.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return _page(page)


@api.get("/search", responses={200: CollectionList})
def search_collections(query: CollectionSearch) -> Response:
    """Search in title, details and tags."""
    page = services().collections.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.q
    )
    return _page(page)


@api.post("", responses={201: CollectionReply})
def create_collection(body: CreateCollection) -> Response:
    """Make an empty collection."""
    view = services().collections.create(
        me(), title=body.title, details=body.details, tags=tuple(body.tags), is_public=body.is_public
    )
    return reply(CollectionReply(view), 201)


@api.get("/<int:collection_id>", responses={200: CollectionReply})
def get_collection(path: CollectionPath) -> Response:
    """Read one collection."""
    return reply(CollectionReply(services().collections.get(me(), path.collection_id)))


@api.patch("/<int:collection_id>", responses={200: CollectionReply})
def update_collection(path: CollectionPath, body: UpdateCollection) -> Response:
    """Change what the body names."""
    changes = cast("DescribedChanges", body.model_dump(exclude_unset=True))
    return reply(CollectionReply(services().collections.update(me(), path.collection_id, changes)))


@api.delete("/<int:collection_id>", responses={200: Message})
def delete_collection(path: CollectionPath) -> Response:
    """Delete a collection with its files, transforms and what they made."""
    services().collections.delete(me(), path.collection_id)
    return reply(Message(message="the collection is deleted"))


@api.get("/<int:collection_id>/transforms", responses={200: CollectionTransformList})
def list_transforms_of_collection(path: CollectionPath, query: SortedWindow) -> Response:
    """List the transforms that read this collection."""
    page = services().collection_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        collection_id=path.collection_id,
        descending=query.descending,
    )
    return reply(CollectionTransformList.of(page))


@api.get("/<int:collection_id>/progress", responses={200: FileCountsReply})
def count_files_by_state(path: CollectionPath) -> Response:
    """Count the files by state."""
    return reply(FileCountsReply(services().progress.files(me(), path.collection_id)))


def _page(page: Page[CollectionView]) -> Response:
    return reply(CollectionList.of(page))
