"""/api/bulk: one verb on many things."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.bulk import BulkDelete, BulkReply, BulkTrigger

api = APIBlueprint(
    "bulk", __name__, url_prefix="/api/bulk", abp_tags=[Tag(name="Bulk")], abp_responses=PROBLEMS
)


@api.post("/delete", responses={200: BulkReply})
def delete_many(body: BulkDelete) -> Response:
    """Delete up to 200 things of one kind; each stands or falls alone."""
    return reply(BulkReply(services().bulk.delete(me(), body.kind, body.ids)))


@api.post("/trigger", responses={200: BulkReply})
def trigger_many(body: BulkTrigger) -> Response:
    """Start up to 200 transforms of one kind; each stands or falls alone."""
    return reply(BulkReply(services().bulk.trigger(me(), body.kind, body.ids)))
