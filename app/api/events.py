"""/api/events: everything that happens to the owner's transforms."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api import sse
from app.api.openapi import answers
from app.security.marks import budget

api = APIBlueprint("events", __name__, url_prefix="/api", abp_tags=[Tag(name="Events")])


@api.get("/events", responses=answers("text/event-stream"))
@budget("stream")
def stream_events() -> Response:
    """Follow all of the owner's transforms (server-sent events: connected, status, reset, closed)."""
    return sse.follow(lambda _event: True)
