"""/api/visualization-transforms."""

from __future__ import annotations

from typing import cast

from flask import Response, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ResponseDict

from app.api import sse
from app.api.context import me, services
from app.api.openapi import answers
from app.api.replies import nothing, reply
from app.api.schemas.base import WITH_CONFLICT
from app.api.schemas.jobs import CancelledReply
from app.api.schemas.visualization_transforms import (
    CreateVisualizationTransform,
    RunPath,
    UpdateVisualizationTransform,
    VisualizationStreamQuery,
    VisualizationTransformList,
    VisualizationTransformPath,
    VisualizationTransformQuery,
    VisualizationTransformReply,
    VisualizationTransformStatsReply,
)
from app.api.schemas.visualizations import (
    DownloadQuery,
    MapExport,
    MapSourceReply,
    VisualizationList,
    VisualizationPath,
    VisualizationReply,
    VisualizationsQuery,
)
from app.api.visualizations import download_visualization
from app.errors import NotFoundError
from app.events.types import StatusEvent
from app.security.marks import budget
from app.services.visualization_transforms import VisualizationTransformChanges
from app.services.visualizations import UNDER_WAY, MapSource

api = APIBlueprint(
    "visualization_transforms",
    __name__,
    url_prefix="/api/visualization-transforms",
    abp_tags=[Tag(name="Visualization transforms")],
    abp_responses=WITH_CONFLICT,
)
_ONE = "/<int:visualization_transform_id>"
_DOWNLOAD: ResponseDict = {200: MapExport, 202: MapSourceReply, 303: {"description": "See Other"}}


@api.get("", responses={200: VisualizationTransformList})
def list_visualization_transforms(query: VisualizationTransformQuery) -> Response:
    """List the owner's visualization transforms."""
    page = services().visualization_transforms.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        search=query.search,
        embedded_dataset_id=query.embedded_dataset_id,
        sort_by=query.sort_by,
        descending=query.descending,
    )
    return reply(VisualizationTransformList.of(page))


@api.post("", responses={201: VisualizationTransformReply})
def create_visualization_transform(body: CreateVisualizationTransform) -> Response:
    """Make a transform; its first run starts at once."""
    view = services().visualization_transforms.create(
        me(),
        title=body.title,
        embedded_dataset_id=body.embedded_dataset_id,
        config=body.visualization_config,
    )
    return reply(VisualizationTransformReply(view), 201)


@api.get("/stream", responses=answers("text/event-stream"))
@budget("stream")
def stream_visualization_transforms(query: VisualizationStreamQuery) -> Response:
    """Follow the owner's visualization transforms (server-sent events)."""

    def matches(event: StatusEvent) -> bool:
        return (
            event.transform_type == "visualization"
            and query.embedded_dataset_id in {None, event.resource_id}
            and query.visualization_transform_id in {None, event.transform_id}
        )

    return sse.follow(matches)


@api.get(_ONE, responses={200: VisualizationTransformReply})
def get_visualization_transform(path: VisualizationTransformPath) -> Response:
    """Read one transform."""
    view = services().visualization_transforms.get(me(), path.visualization_transform_id)
    return reply(VisualizationTransformReply(view))


@api.patch(_ONE, responses={200: VisualizationTransformReply})
def update_visualization_transform(
    path: VisualizationTransformPath, body: UpdateVisualizationTransform
) -> Response:
    """Change what the body names; the next run uses it."""
    changes = cast("VisualizationTransformChanges", body.model_dump(exclude_unset=True))
    view = services().visualization_transforms.update(me(), path.visualization_transform_id, changes)
    return reply(VisualizationTransformReply(view))


@api.delete(_ONE, responses={204: None})
def delete_visualization_transform(path: VisualizationTransformPath) -> Response:
    """Delete a transform with its maps."""
    services().visualization_transforms.delete(me(), path.visualization_transform_id)
    return nothing()


@api.post(f"{_ONE}/trigger", responses={200: VisualizationReply})
def trigger_visualization_transform(path: VisualizationTransformPath) -> Response:
    """Start another run; 409 while one is active."""
    run = services().visualization_transforms.trigger(me(), path.visualization_transform_id)
    return reply(VisualizationReply(run))


@api.post(f"{_ONE}/cancel", responses={200: CancelledReply})
def cancel_visualization_transform(path: VisualizationTransformPath) -> Response:
    """Stop the run that waits or works, if there is one."""
    key = path.visualization_transform_id
    return reply(CancelledReply(services().cancelling.visualization_transform(me(), key)))


@api.get(f"{_ONE}/stats", responses={200: VisualizationTransformStatsReply})
def get_visualization_transform_stats(path: VisualizationTransformPath) -> Response:
    """Count the runs."""
    stats = services().visualization_transforms.stats(me(), path.visualization_transform_id)
    return reply(VisualizationTransformStatsReply(stats))


@api.get(f"{_ONE}/visualizations", responses={200: VisualizationList})
def list_runs(path: VisualizationTransformPath, query: VisualizationsQuery) -> Response:
    """List the runs, newest first."""
    page = services().visualizations.list(
        me(),
        limit=query.limit,
        offset=query.offset,
        cursor=query.cursor,
        visualization_transform_id=path.visualization_transform_id,
    )
    return reply(VisualizationList.of(page))


@api.get(f"{_ONE}/visualizations/<int:visualization_id>", responses={200: MapSourceReply})
def get_run(path: RunPath) -> Response:
    """Read one run."""
    return reply(MapSourceReply(_run(path)))


@api.get(f"{_ONE}/visualizations/<int:visualization_id>/download", responses=_DOWNLOAD)
def download_run(path: RunPath, query: DownloadQuery) -> Response:
    """Download coordinates and topics of one run; 202 while it is made, browsers are shown its map (303)."""
    run = _run(path)
    if run.status in UNDER_WAY:
        return reply(MapSourceReply(run), 202)
    if query.download == "false" and _wants_page():
        page = url_for("web.map_page", transform_id=path.visualization_transform_id, run=run.visualization_id)
        return Response(status=303, headers={"Location": page})
    response: Response = download_visualization(
        path=VisualizationPath(visualization_id=path.visualization_id)
    )
    return response


def _wants_page() -> bool:
    return request.accept_mimetypes.best_match(("application/json", "text/html")) == "text/html"


def _run(path: RunPath) -> MapSource:
    source = services().visualizations.get(me(), path.visualization_id)
    if source.visualization_transform_id != path.visualization_transform_id:
        raise NotFoundError(f"no visualization {path.visualization_id} of this transform")
    return source
