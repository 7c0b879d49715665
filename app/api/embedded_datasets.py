"""/api/embedded-datasets."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.identifiers import uuid_of
from app.api.replies import nothing, reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.dataset_transforms import BatchList
from app.api.schemas.datasets import EmbeddedDatasetList
from app.api.schemas.embedded_datasets import (
    EmbeddedDatasetIds,
    EmbeddedDatasetPath,
    EmbeddedDatasetQuery,
    EmbeddedDatasetReply,
    EmbeddingProgressList,
    EmbeddingProgressReply,
    PointPageReply,
    PointPath,
    PointsQuery,
    ProcessedBatchQuery,
    UpdateEmbeddedDataset,
    VectorReply,
)
from app.api.schemas.visualizations import VisualizationList, VisualizationsQuery
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "embedded_datasets",
    __name__,
    url_prefix="/api/embedded-datasets",
    abp_tags=[Tag(name="Embedded datasets")],
    abp_responses=PROBLEMS,
)
_ONE = "/<int:embedded_dataset_id>"


@api.get("", responses={200: EmbeddedDatasetList})
def list_embedded_datasets(query: EmbeddedDatasetQuery) -> Response:
    """List the owner's embedded datasets."""
    page = services().embedded_datasets.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return reply(EmbeddedDatasetList.of(page))


@api.post("/batch-stats", responses={200: EmbeddingProgressList})
@least_role(Role.VIEWER)
def count_several_embedded_datasets(body: EmbeddedDatasetIds) -> Response:
    """Count what is done of several at once."""
    stats = services().embedded_datasets.stats_of(me(), body.embedded_dataset_ids)
    return reply(EmbeddingProgressList(stats=list(stats)))


@api.get(_ONE, responses={200: EmbeddedDatasetReply})
def get_embedded_dataset(path: EmbeddedDatasetPath) -> Response:
    """Read one embedded dataset."""
    return reply(EmbeddedDatasetReply(services().embedded_datasets.get(me(), path.embedded_dataset_id)))


@api.patch(_ONE, responses={200: EmbeddedDatasetReply})
def update_embedded_dataset(path: EmbeddedDatasetPath, body: UpdateEmbeddedDataset) -> Response:
    """Rename it."""
    view = services().embedded_datasets.update(me(), path.embedded_dataset_id, title=body.title)
    return reply(EmbeddedDatasetReply(view))


@api.delete(_ONE, responses={204: None})
def delete_embedded_dataset(path: EmbeddedDatasetPath) -> Response:
    """Delete it with its vectors and maps."""
    services().embedded_datasets.delete(me(), path.embedded_dataset_id)
    return nothing()


@api.get(f"{_ONE}/stats", responses={200: EmbeddingProgressReply})
def get_embedded_dataset_stats(path: EmbeddedDatasetPath) -> Response:
    """Count what is done."""
    return reply(EmbeddingProgressReply(services().embedded_datasets.stats(me(), path.embedded_dataset_id)))


@api.get(f"{_ONE}/points", responses={200: PointPageReply})
def list_points(path: EmbeddedDatasetPath, query: PointsQuery) -> Response:
    """List stored points in the order of their ids."""
    cursor = None if query.offset is None else uuid_of(query.offset, "point")
    page = services().embedded_datasets.points(
        me(), path.embedded_dataset_id, limit=query.limit, cursor=cursor
    )
    return reply(PointPageReply(page))


@api.get(f"{_ONE}/points/<point_id>/vector", responses={200: VectorReply})
def get_vector(path: PointPath) -> Response:
    """Read the numbers of one point."""
    key = uuid_of(path.point_id, "point")
    numbers = services().embedded_datasets.vector(me(), path.embedded_dataset_id, key)
    return reply(VectorReply(id=str(key), vector=list(numbers)))


@api.get(f"{_ONE}/processed-batches", responses={200: BatchList})
def list_processed_batches(path: EmbeddedDatasetPath, query: ProcessedBatchQuery) -> Response:
    """List the embedding jobs, newest first unless told otherwise."""
    page = services().embedded_datasets.batches(
        me(),
        path.embedded_dataset_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        status=query.status,
        sort_by=query.sort_by,
        descending=query.descending,
    )
    return reply(BatchList.of(page))


@api.get(f"{_ONE}/visualizations", responses={200: VisualizationList})
def list_visualizations_of_embedded_dataset(
    path: EmbeddedDatasetPath, query: VisualizationsQuery
) -> Response:
    """List the maps drawn from it, newest first."""
    page = services().visualizations.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        embedded_dataset_id=path.embedded_dataset_id,
    )
    return reply(VisualizationList.of(page))
