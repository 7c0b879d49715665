"""/api/marketplace: what people made public, and grabbing a copy of it."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS, Problem
from app.api.schemas.collections import CollectionList, CollectionPath, CollectionReply
from app.api.schemas.datasets import DatasetList, DatasetPath, DatasetReply
from app.api.schemas.embedders import EmbedderList, EmbedderPath, EmbedderReply
from app.api.schemas.llms import LlmList, LlmPath, LlmReply
from app.api.schemas.marketplace import PublicWindow, RecentWindow

api = APIBlueprint(
    "marketplace",
    __name__,
    url_prefix="/api/marketplace",
    abp_tags=[Tag(name="Marketplace")],
    abp_responses=PROBLEMS,
)


@api.get("/collections", responses={200: CollectionList})
def list_public_collections(query: PublicWindow) -> Response:
    """List everybody's public collections, newest first."""
    page = services().collections.public(limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(CollectionList.of(page))


@api.get("/collections/recent", responses={200: CollectionList})
def list_recent_collections(query: RecentWindow) -> Response:
    """List the newest public collections."""
    page = services().collections.public(limit=max(query.limit, 1))
    shown = list(page.items)[: query.limit]
    return reply(CollectionList(collections=shown, total_count=page.total_count, limit=query.limit, offset=0))


@api.post(
    "/collections/<int:collection_id>/grab", responses={201: CollectionReply, "409": Problem, "413": Problem}
)
def grab_collection(path: CollectionPath) -> Response:
    """Copy a public collection with its files; the copy is private and yours."""
    copy = services().grabbing.collection(me(), path.collection_id)
    return reply(CollectionReply(services().collections.get(me(), copy)), 201)


@api.get("/datasets", responses={200: DatasetList})
def list_public_datasets(query: PublicWindow) -> Response:
    """List everybody's public datasets, newest first."""
    page = services().datasets.public(limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(DatasetList.of(page))


@api.get("/datasets/recent", responses={200: DatasetList})
def list_recent_datasets(query: RecentWindow) -> Response:
    """List the newest public datasets."""
    page = services().datasets.public(limit=max(query.limit, 1))
    shown = list(page.items)[: query.limit]
    return reply(DatasetList(items=shown, total_count=page.total_count, limit=query.limit, offset=0))


@api.post("/datasets/<int:dataset_id>/grab", responses={201: DatasetReply, "409": Problem, "413": Problem})
def grab_dataset(path: DatasetPath) -> Response:
    """Copy a public dataset with its items; the copy is private and yours."""
    copy = services().grabbing.dataset(me(), path.dataset_id)
    return reply(DatasetReply(services().datasets.get(me(), copy)), 201)


@api.get("/embedders", responses={200: EmbedderList})
def list_public_embedders(query: PublicWindow) -> Response:
    """List everybody's public embedders, newest first."""
    page = services().embedders.public(limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(EmbedderList.of(page))


@api.get("/embedders/recent", responses={200: EmbedderList})
def list_recent_embedders(query: RecentWindow) -> Response:
    """List the newest public embedders."""
    page = services().embedders.public(limit=max(query.limit, 1))
    shown = list(page.items)[: query.limit]
    return reply(EmbedderList(items=shown, total_count=page.total_count, limit=query.limit, offset=0))


@api.post("/embedders/<int:embedder_id>/grab", responses={201: EmbedderReply})
def grab_embedder(path: EmbedderPath) -> Response:
    """Copy a public embedder, without its key; the copy is private and yours."""
    copy = services().grabbing.embedder(me(), path.embedder_id)
    return reply(EmbedderReply(services().embedders.get(me(), copy)), 201)


@api.get("/llms", responses={200: LlmList})
def list_public_llms(query: PublicWindow) -> Response:
    """List everybody's public LLMs, newest first."""
    page = services().llms.public(limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(LlmList.of(page))


@api.get("/llms/recent", responses={200: LlmList})
def list_recent_llms(query: RecentWindow) -> Response:
    """List the newest public LLMs."""
    page = services().llms.public(limit=max(query.limit, 1))
    shown = list(page.items)[: query.limit]
    return reply(LlmList(items=shown, total_count=page.total_count, limit=query.limit, offset=0))


@api.post("/llms/<int:llm_id>/grab", responses={201: LlmReply})
def grab_llm(path: LlmPath) -> Response:
    """Copy a public LLM, without its key; the copy is private and yours."""
    copy = services().grabbing.llm(me(), path.llm_id)
    return reply(LlmReply(services().llms.get(me(), copy)), 201)
