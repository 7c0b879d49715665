"""/api/visualizations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import container, me, services
from app.api.openapi import answers
from app.api.replies import attachment, nothing, reply, stream
from app.api.schemas.base import WITH_CONFLICT
from app.api.schemas.jobs import CancelledReply
from app.api.schemas.visualizations import (
    ClusterList,
    MapExport,
    MapPoints,
    MapPointsQuery,
    MapSourceReply,
    RecentMaps,
    RecentQuery,
    VisualizationList,
    VisualizationPath,
    VisualizationsQuery,
)
from app.security.principal import Principal
from app.services.visualizations import Visualizations

ARROW = "application/vnd.apache.arrow.file"
_EXPORT_POINTS = 10_000

api = APIBlueprint(
    "visualizations",
    __name__,
    url_prefix="/api/visualizations",
    abp_tags=[Tag(name="Visualizations")],
    abp_responses=WITH_CONFLICT,
)
_ONE = "/<int:visualization_id>"


@api.get("", responses={200: VisualizationList})
def list_visualizations(query: VisualizationsQuery) -> Response:
    """List the owner's maps, newest first."""
    page = services().visualizations.list(me(), limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(VisualizationList.of(page))


@api.get("/recent", responses={200: RecentMaps})
def list_recent_visualizations(query: RecentQuery) -> Response:
    """List the newest finished maps."""
    return reply(RecentMaps(items=list(services().visualizations.recent(me(), limit=query.limit))))


@api.get(_ONE, responses={200: MapSourceReply})
def get_visualization(path: VisualizationPath) -> Response:
    """Read one map's state and what it is drawn from."""
    return reply(MapSourceReply(services().visualizations.get(me(), path.visualization_id)))


@api.delete(_ONE, responses={204: None})
def delete_visualization(path: VisualizationPath) -> Response:
    """Delete one map."""
    services().visualizations.delete(me(), path.visualization_id)
    return nothing()


@api.post(f"{_ONE}/cancel", responses={200: CancelledReply})
def cancel_visualization(path: VisualizationPath) -> Response:
    """Stop the making of this map, unless it has ended."""
    return reply(CancelledReply(services().cancelling.visualization(me(), path.visualization_id)))


@api.get(f"{_ONE}/clusters", responses={200: ClusterList})
def list_clusters(path: VisualizationPath) -> Response:
    """List the topics, largest first."""
    clusters = services().visualizations.clusters(me(), path.visualization_id)
    return reply(ClusterList(clusters=list(clusters)))


@api.get(f"{_ONE}/points", responses=answers(ARROW, binary=True))
def get_points_file(path: VisualizationPath) -> Response:
    """Read all points as one Arrow file; it never changes, so it may be kept."""
    file = services().visualizations.points_file(me(), path.visualization_id)
    response = stream(file.stream, media_type=ARROW, size_bytes=file.size_bytes, etag=file.etag)
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    if request.if_none_match:
        response.make_conditional(request)
    return response


@api.get(f"{_ONE}/points.json", responses={200: MapPoints})
def list_map_points(path: VisualizationPath, query: MapPointsQuery) -> Response:
    """Read points as JSON, page by page."""
    page = services().visualizations.points(
        me(), path.visualization_id, limit=query.limit, offset=query.offset
    )
    return reply(
        MapPoints(points=list(page.items), total_count=page.total_count, limit=page.limit, offset=page.offset)
    )


@api.get(f"{_ONE}/download", responses={200: MapExport})
def download_visualization(path: VisualizationPath) -> Response:
    """Download coordinates and topics as one JSON document."""
    maps, who, key = container().services.visualizations, me(), path.visualization_id
    maps.points(who, key, limit=1)  # refuses here what cannot be downloaded, before the answer begins
    response = Response(_export(maps, who, key), mimetype="application/json")
    response.headers["Content-Disposition"] = attachment(f"map-{key}.json")
    return response


def _export(maps: Visualizations, who: Principal, key: int) -> Iterator[str]:
    head = {
        "visualization": _plain(MapSourceReply(maps.get(who, key))),
        "clusters": _plain(ClusterList(clusters=list(maps.clusters(who, key))))["clusters"],
    }
    yield json.dumps(head)[:-1] + ', "points": ['
    offset = 0
    while True:
        page = maps.points(who, key, limit=_EXPORT_POINTS, offset=offset)
        body = MapPoints(points=list(page.items), total_count=0, limit=1, offset=0).model_dump_json(
            include={"points"}
        )
        inner = body[body.index("[") + 1 : body.rindex("]")]
        yield inner if offset == 0 else f",{inner}"
        offset += len(page.items)
        if not page.has_more:
            break
    yield "]}"


def _plain(body: MapSourceReply | ClusterList) -> Any:
    return body.model_dump(mode="json")
