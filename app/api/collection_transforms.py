"""/api/collection-transforms."""

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
from app.api.schemas.collection_transforms import (
    CollectionStreamQuery,
    CollectionTransformList,
    CollectionTransformPath,
    CollectionTransformQuery,
    CollectionTransformReply,
    CollectionTransformStatsReply,
    CreateCollectionTransform,
    ProcessedFileList,
    ProcessedFilesQuery,
    UpdateCollectionTransform,
)
from app.api.schemas.jobs import CancelledReply
from app.api.schemas.transform_runs import CollectionRunPath, TransformRunList, TransformRunReply
from app.security.marks import budget
from app.services.collection_transforms import CollectionTransformChanges

api = APIBlueprint(
    "collection_transforms",
    __name__,
    url_prefix="/api/collection-transforms",
    abp_tags=[Tag(name="Collection transforms")],
    abp_responses=PROBLEMS,
)
_ONE = "/<int:collection_transform_id>"


@api.get("", responses={200: CollectionTransformList})
def list_collection_transforms(query: CollectionTransformQuery) -> Response:
    """List the owner's collection transforms."""
    page = services().collection_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        collection_id=query.collection_id,
        dataset_id=query.dataset_id,
        sort_by=query.sort_by,
        descending=query.descending,
    )
    return reply(CollectionTransformList.of(page))


@api.post("", responses={201: CollectionTransformReply})
def create_collection_transform(body: CreateCollectionTransform) -> Response:
    """Make a transform; its first run is planned at once."""
    view = services().collection_transforms.create(
        me(),
        title=body.title,
        collection_id=body.collection_id,
        dataset_id=body.dataset_id,
        chunk_size=body.chunk_size,
        job_config=body.job_config,
    )
    return reply(CollectionTransformReply(view), 201)


@api.get("/stream", responses=answers("text/event-stream"))
@budget("stream")
def stream_collection_transforms(query: CollectionStreamQuery) -> Response:
    """Follow the owner's collection transforms (server-sent events)."""
    wanted = query.collection_id
    return sse.follow(
        lambda event: event.transform_type == "collection" and wanted in {None, event.resource_id}
    )


@api.get(_ONE, responses={200: CollectionTransformReply})
def get_collection_transform(path: CollectionTransformPath) -> Response:
    """Read one transform."""
    view = services().collection_transforms.get(me(), path.collection_transform_id)
    return reply(CollectionTransformReply(view))


@api.patch(_ONE, responses={200: CollectionTransformReply})
def update_collection_transform(path: CollectionTransformPath, body: UpdateCollectionTransform) -> Response:
    """Change what the body names; a new configuration makes every file new."""
    changes = cast("CollectionTransformChanges", body.model_dump(exclude_unset=True))
    view = services().collection_transforms.update(me(), path.collection_transform_id, changes)
    return reply(CollectionTransformReply(view))


@api.delete(_ONE, responses={204: None})
def delete_collection_transform(path: CollectionTransformPath) -> Response:
    """Delete a transform with the items that it made."""
    services().collection_transforms.delete(me(), path.collection_transform_id)
    return nothing()


@api.post(f"{_ONE}/trigger", responses={200: Message})
def trigger_collection_transform(path: CollectionTransformPath) -> Response:
    """Look for files that are not done."""
    services().collection_transforms.trigger(me(), path.collection_transform_id)
    return reply(Message(message="looking for files that are not done"))


@api.post(f"{_ONE}/retry-failed", responses={200: RetriedCount})
def retry_failed_files(path: CollectionTransformPath) -> Response:
    """Try the failed files again."""
    count = services().collection_transforms.retry_failed(me(), path.collection_transform_id)
    return reply(RetriedCount(retried_count=count))


@api.post(f"{_ONE}/cancel", responses={200: CancelledReply})
def cancel_collection_transform(path: CollectionTransformPath) -> Response:
    """Stop reading files; those not read are marked as cancelled until somebody retries them."""
    return reply(
        CancelledReply(services().cancelling.collection_transform(me(), path.collection_transform_id))
    )


@api.get(f"{_ONE}/stats", responses={200: CollectionTransformStatsReply})
def get_collection_transform_stats(path: CollectionTransformPath) -> Response:
    """Count what is done."""
    stats = services().collection_transforms.stats(me(), path.collection_transform_id)
    return reply(CollectionTransformStatsReply(stats))


@api.get(f"{_ONE}/processed-files", responses={200: ProcessedFileList})
def list_processed_files(path: CollectionTransformPath, query: ProcessedFilesQuery) -> Response:
    """List what became of each file."""
    page = services().collection_transforms.processed_files(
        me(),
        path.collection_transform_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        status=query.status,
    )
    return reply(ProcessedFileList.of(page))


@api.get(f"{_ONE}/runs", responses={200: TransformRunList})
def list_collection_transform_runs(path: CollectionTransformPath, query: KeyedWindow) -> Response:
    """List its runs with how far each is, newest first; plans that found nothing to do are left out."""
    page = services().transform_runs.list(
        me(),
        "collection",
        path.collection_transform_id,
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
    )
    return reply(TransformRunList.of(page))


@api.get(f"{_ONE}/runs/<run_id>", responses={200: TransformRunReply})
def get_collection_transform_run(path: CollectionRunPath) -> Response:
    """Read one run: done, failed, running and left, the rate, and the seconds that it will take."""
    key = uuid_of(path.run_id, "run")
    return reply(
        TransformRunReply(
            services().transform_runs.get(me(), "collection", path.collection_transform_id, key)
        )
    )


@api.post(f"{_ONE}/runs/<run_id>/cancel", responses={200: CancelledReply})
def cancel_collection_transform_run(path: CollectionRunPath) -> Response:
    """Stop one run; what it has not done is marked as cancelled until somebody retries it."""
    key = uuid_of(path.run_id, "run")
    return reply(
        CancelledReply(services().cancelling.collection_run(me(), path.collection_transform_id, key))
    )


@api.get(f"{_ONE}/runs/<run_id>/stream", responses=answers("text/event-stream"))
@budget("stream")
def stream_collection_transform_run(path: CollectionRunPath) -> Response:
    """Follow how far one run is until it has ended (server-sent events)."""
    return follow_run("collection", path.collection_transform_id, uuid_of(path.run_id, "run"))
