"""/api/dataset-transforms."""

from __future__ import annotations

from typing import cast

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import sse
from app.api.context import me, services
from app.api.identifiers import uuid_of
from app.api.openapi import answers
from app.api.replies import nothing, reply
from app.api.run_stream import follow_run
from app.api.schemas.base import PROBLEMS, KeyedWindow, Message, RetriedCount
from app.api.schemas.dataset_transforms import (
    BatchList,
    BatchPath,
    BatchQuery,
    BatchReply,
    BatchStatsReply,
    CreateDatasetTransform,
    CreatedDatasetTransform,
    DatasetStreamQuery,
    DatasetTransformList,
    DatasetTransformPath,
    DatasetTransformQuery,
    DatasetTransformReply,
    DatasetTransformStatsReply,
    UpdateDatasetTransform,
)
from app.api.schemas.jobs import CancelledReply
from app.api.schemas.transform_runs import DatasetRunPath, TransformRunList, TransformRunReply
from app.security.marks import budget
from app.services.dataset_transforms import DatasetTransformChanges

api = APIBlueprint(
    "dataset_transforms",
    __name__,
    url_prefix="/api/dataset-transforms",
    abp_tags=[Tag(name="Dataset transforms")],
    abp_responses=PROBLEMS,
)
_ONE = "/<int:dataset_transform_id>"


@api.get("", responses={200: DatasetTransformList})
def list_dataset_transforms(query: DatasetTransformQuery) -> Response:
    """List the owner's dataset transforms."""
    page = services().dataset_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        dataset_id=query.dataset_id,
        sort_by=query.sort_by,
        descending=query.descending,
    )
    return reply(DatasetTransformList.of(page))


@api.post("", responses={201: CreatedDatasetTransform})
def create_dataset_transform(body: CreateDatasetTransform) -> Response:
    """Make a transform with an embedded dataset per embedder; its first run is planned at once."""
    transform = services().dataset_transforms.create(
        me(),
        title=body.title,
        source_dataset_id=body.source_dataset_id,
        embedder_ids=body.embedder_ids,
        job_config=body.job_config,
    )
    embedded = [services().embedded_datasets.get(me(), key) for key in transform.embedded_dataset_ids]
    return reply(
        CreatedDatasetTransform(
            transform=transform,
            embedded_datasets=embedded,
            message=f"{len(embedded)} embedded datasets are being filled",
        ),
        201,
    )


@api.get("/stream", responses=answers("text/event-stream"))
@budget("stream")
def stream_dataset_transforms(query: DatasetStreamQuery) -> Response:
    """Follow the owner's dataset transforms (server-sent events)."""
    wanted = query.dataset_id
    return sse.follow(lambda event: event.transform_type == "dataset" and wanted in {None, event.resource_id})


@api.get(_ONE, responses={200: DatasetTransformReply})
def get_dataset_transform(path: DatasetTransformPath) -> Response:
    """Read one transform."""
    return reply(DatasetTransformReply(services().dataset_transforms.get(me(), path.dataset_transform_id)))


@api.patch(_ONE, responses={200: DatasetTransformReply})
def update_dataset_transform(path: DatasetTransformPath, body: UpdateDatasetTransform) -> Response:
    """Change what the body names; `embedder_ids` adds and removes embedded datasets."""
    changes = cast("DatasetTransformChanges", body.model_dump(exclude_unset=True))
    view = services().dataset_transforms.update(me(), path.dataset_transform_id, changes)
    return reply(DatasetTransformReply(view))


@api.delete(_ONE, responses={204: None})
def delete_dataset_transform(path: DatasetTransformPath) -> Response:
    """Delete a transform with its embedded datasets, vectors and maps."""
    services().dataset_transforms.delete(me(), path.dataset_transform_id)
    return nothing()


@api.post(f"{_ONE}/trigger", responses={200: Message})
def trigger_dataset_transform(path: DatasetTransformPath) -> Response:
    """Look for items that are not done."""
    services().dataset_transforms.trigger(me(), path.dataset_transform_id)
    return reply(Message(message="looking for items that are not done"))


@api.post(f"{_ONE}/retry-failed", responses={200: RetriedCount})
def retry_failed_items(path: DatasetTransformPath) -> Response:
    """Try the failed items again."""
    count = services().dataset_transforms.retry_failed(me(), path.dataset_transform_id)
    return reply(RetriedCount(retried_count=count))


@api.post(f"{_ONE}/cancel", responses={200: CancelledReply})
def cancel_dataset_transform(path: DatasetTransformPath) -> Response:
    """Stop embedding; items not embedded are marked as cancelled until somebody retries them."""
    return reply(CancelledReply(services().cancelling.dataset_transform(me(), path.dataset_transform_id)))


@api.get(f"{_ONE}/stats", responses={200: DatasetTransformStatsReply})
def get_dataset_transform_stats(path: DatasetTransformPath) -> Response:
    """Count what is done, all together and per embedder."""
    stats = services().dataset_transforms.stats(me(), path.dataset_transform_id)
    return reply(DatasetTransformStatsReply(stats))


@api.get(f"{_ONE}/detailed-stats", responses={200: DatasetTransformStatsReply})
def get_dataset_transform_detailed_stats(path: DatasetTransformPath) -> Response:
    """The same as stats, under its other name."""
    stats = services().dataset_transforms.stats(me(), path.dataset_transform_id)
    return reply(DatasetTransformStatsReply(stats))


@api.get(f"{_ONE}/batches", responses={200: BatchList})
def list_batches(path: DatasetTransformPath, query: BatchQuery) -> Response:
    """List the embedding jobs, newest first unless told otherwise."""
    page = services().dataset_transforms.batches(
        me(),
        path.dataset_transform_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        status=query.status,
        sort_by=query.sort_by,
        descending=query.descending,
    )
    return reply(BatchList.of(page))


@api.get(f"{_ONE}/batches/stats", responses={200: BatchStatsReply})
def get_batch_stats(path: DatasetTransformPath) -> Response:
    """Count the embedding jobs by state."""
    return reply(BatchStatsReply(services().batches.stats(me(), path.dataset_transform_id)))


@api.get(f"{_ONE}/batches/<batch_key>", responses={200: BatchReply})
def get_batch(path: BatchPath) -> Response:
    """Read one embedding job."""
    key = uuid_of(path.batch_key, "batch")
    return reply(BatchReply(services().batches.get(me(), path.dataset_transform_id, key)))


@api.post(f"{_ONE}/batches/<batch_key>/retry", responses={200: RetriedCount})
def retry_batch(path: BatchPath) -> Response:
    """Try the items again that failed with this embedding job."""
    key = uuid_of(path.batch_key, "batch")
    count = services().batches.retry(me(), path.dataset_transform_id, key)
    return reply(RetriedCount(retried_count=count))


@api.get(f"{_ONE}/runs", responses={200: TransformRunList})
def list_dataset_transform_runs(path: DatasetTransformPath, query: KeyedWindow) -> Response:
    """List its runs with how far each is, newest first; plans that found nothing to do are left out."""
    page = services().transform_runs.list(
        me(),
        "dataset",
        path.dataset_transform_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
    )
    return reply(TransformRunList.of(page))


@api.get(f"{_ONE}/runs/<run_id>", responses={200: TransformRunReply})
def get_dataset_transform_run(path: DatasetRunPath) -> Response:
    """Read one run: done, failed, running and left, the rate, and the seconds that it will take."""
    key = uuid_of(path.run_id, "run")
    return reply(
        TransformRunReply(services().transform_runs.get(me(), "dataset", path.dataset_transform_id, key))
    )


@api.post(f"{_ONE}/runs/<run_id>/cancel", responses={200: CancelledReply})
def cancel_dataset_transform_run(path: DatasetRunPath) -> Response:
    """Stop one run; what it has not done is marked as cancelled until somebody retries it."""
    key = uuid_of(path.run_id, "run")
    return reply(CancelledReply(services().cancelling.dataset_run(me(), path.dataset_transform_id, key)))


@api.get(f"{_ONE}/runs/<run_id>/stream", responses=answers("text/event-stream"))
@budget("stream")
def stream_dataset_transform_run(path: DatasetRunPath) -> Response:
    """Follow how far one run is until it has ended (server-sent events)."""
    return follow_run("dataset", path.dataset_transform_id, uuid_of(path.run_id, "run"))
