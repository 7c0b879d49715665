"""/api/datasets."""

from __future__ import annotations

from typing import cast

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS, KeyedSearchWindow, Message, SortedWindow
from app.api.schemas.collection_transforms import CollectionTransformList
from app.api.schemas.dataset_transforms import DatasetTransformList
from app.api.schemas.datasets import (
    CreateDataset,
    DatasetList,
    DatasetPath,
    DatasetReply,
    EmbeddedDatasetList,
    EmbeddedOfDatasetQuery,
    UpdateDataset,
)
from app.api.schemas.embedders import EmbedderList
from app.services.described import DescribedChanges

api = APIBlueprint(
    "datasets",
    __name__,
    url_prefix="/api/datasets",
    abp_tags=[Tag(name="Datasets")],
    abp_responses=PROBLEMS,
)
_ONE = "/<int:dataset_id>"


@api.get("", responses={200: DatasetList})
def list_datasets(query: KeyedSearchWindow) -> Response:
    """List the owner's datasets; `search` looks in title, details and tags."""
    page = services().datasets.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return reply(DatasetList.of(page))


@api.get("/embedders", responses={200: EmbedderList})
def list_embedders_for_datasets(query: KeyedSearchWindow) -> Response:
    """List the embedders that a dataset can go through: the owner's."""
    page = services().embedders.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return reply(EmbedderList.of(page))


@api.post("", responses={201: DatasetReply})
def create_dataset(body: CreateDataset) -> Response:
    """Make an empty dataset."""
    view = services().datasets.create(
        me(), title=body.title, details=body.details, tags=tuple(body.tags), is_public=body.is_public
    )
    return reply(DatasetReply(view), 201)


@api.get(_ONE, responses={200: DatasetReply})
def get_dataset(path: DatasetPath) -> Response:
    """Read one dataset."""
    return reply(DatasetReply(services().datasets.get(me(), path.dataset_id)))


@api.patch(_ONE, responses={200: DatasetReply})
def update_dataset(path: DatasetPath, body: UpdateDataset) -> Response:
    """Change what the body names."""
    changes = cast("DescribedChanges", body.model_dump(exclude_unset=True))
    return reply(DatasetReply(services().datasets.update(me(), path.dataset_id, changes)))


@api.delete(_ONE, responses={200: Message})
def delete_dataset(path: DatasetPath) -> Response:
    """Delete a dataset with items, transforms, vectors and maps."""
    services().datasets.delete(me(), path.dataset_id)
    return reply(Message(message="the dataset is deleted"))


@api.get(f"{_ONE}/transforms", responses={200: DatasetTransformList})
def list_transforms_of_dataset(path: DatasetPath, query: SortedWindow) -> Response:
    """List the transforms that read this dataset."""
    page = services().dataset_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        dataset_id=path.dataset_id,
        descending=query.descending,
    )
    return reply(DatasetTransformList.of(page))


@api.get(f"{_ONE}/collection-transforms", responses={200: CollectionTransformList})
def list_transforms_into_dataset(path: DatasetPath, query: SortedWindow) -> Response:
    """List the collection transforms that fill this dataset."""
    page = services().collection_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        dataset_id=path.dataset_id,
        descending=query.descending,
    )
    return reply(CollectionTransformList.of(page))


@api.get(f"{_ONE}/embedded-datasets", responses={200: EmbeddedDatasetList})
def list_embedded_datasets_of_dataset(path: DatasetPath, query: EmbeddedOfDatasetQuery) -> Response:
    """List the embedded datasets made from this dataset."""
    page = services().embedded_datasets.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, dataset_id=path.dataset_id
    )
    return reply(EmbeddedDatasetList.of(page))
