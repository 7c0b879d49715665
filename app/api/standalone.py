"""/api/embedded-datasets/standalone, and vectors that are pushed and deleted."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.guard import takes_bytes
from app.api.identifiers import uuid_of
from app.api.replies import nothing, reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.embedded_datasets import EmbeddedDatasetPath, EmbeddedDatasetReply, PointPath
from app.api.schemas.standalone import NewStandalone, PushedVectorsReply, PushVectors
from app.security.marks import budget
from app.services.standalone import PushedPoint

_MOST_BYTES = 64 * 1024 * 1024

api = APIBlueprint(
    "standalone",
    __name__,
    url_prefix="/api/embedded-datasets",
    abp_tags=[Tag(name="Embedded datasets")],
    abp_responses=PROBLEMS,
)


@api.post("/standalone", responses={201: EmbeddedDatasetReply})
def create_standalone(body: NewStandalone) -> Response:
    """Make one for vectors from outside."""
    view = services().standalone.create(
        me(), title=body.title, dimensions=body.dimensions, embedder_id=body.embedder_id
    )
    return reply(EmbeddedDatasetReply(view), 201)


@api.post("/<int:embedded_dataset_id>/push-vectors", responses={200: PushedVectorsReply})
@takes_bytes(_MOST_BYTES)
@budget("upload")
def push_vectors(path: EmbeddedDatasetPath, body: PushVectors) -> Response:
    """Write up to 1000 points into a standalone one; those with a known id anew."""
    points = [PushedPoint(each.id, each.vector, each.payload) for each in body.points]
    return reply(PushedVectorsReply(services().standalone.push(me(), path.embedded_dataset_id, points)))


@api.delete("/<int:embedded_dataset_id>/points/<point_id>", responses={204: None})
def delete_point(path: PointPath) -> Response:
    """Delete one point of a standalone one."""
    key = uuid_of(path.point_id, "point")
    services().standalone.delete_point(me(), path.embedded_dataset_id, key)
    return nothing()
