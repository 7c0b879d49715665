"""/api/dead-letters/bulks: the same done to many letters at once."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import WITH_CONFLICT, KeyedWindow
from app.api.schemas.dead_letters import (
    BulkBody,
    BulkList,
    BulkPath,
    BulkPreviewReply,
    BulkProblems,
    BulkReply,
    BulkUndoneReply,
)

_ONE = "/<int:bulk_id>"

api = APIBlueprint(
    "dead_letter_bulks",
    __name__,
    url_prefix="/api/dead-letters/bulks",
    abp_tags=[Tag(name="Dead letters")],
    abp_responses=WITH_CONFLICT,
)


@api.post("", responses={201: BulkPreviewReply})
def prepare_bulk(body: BulkBody) -> Response:
    """Freeze the list of all open letters that match; nothing is done to them before it is started."""
    return reply(
        BulkPreviewReply(services().letter_bulks.prepare(me(), body.filter.filter(), body.order())), 201
    )


@api.get("", responses={200: BulkList})
def list_bulks(query: KeyedWindow) -> Response:
    """List bulk jobs, the newest first."""
    page = services().letter_bulks.list(me(), limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(BulkList.of(page))


@api.get(_ONE, responses={200: BulkPreviewReply})
def get_bulk(path: BulkPath) -> Response:
    """Read how far a bulk job is, what it is about, and how the letters fare that it sent again."""
    return reply(BulkPreviewReply(services().letter_bulks.preview(me(), path.bulk_id)))


@api.get(f"{_ONE}/problems", responses={200: BulkProblems})
def list_bulk_problems(path: BulkPath) -> Response:
    """List letters that were passed over, failed or died again, with the reason."""
    problems = services().letter_bulks.problems(me(), path.bulk_id, limit=1000)
    return reply(BulkProblems(items=list(problems)))


@api.post(f"{_ONE}/start", responses={200: BulkReply})
def start_bulk(path: BulkPath) -> Response:
    """Begin; 403 where another person than its maker must do that."""
    return reply(BulkReply(services().letter_bulks.start(me(), path.bulk_id)))


@api.post(f"{_ONE}/pause", responses={200: BulkReply})
def pause_bulk(path: BulkPath) -> Response:
    """Stop for now."""
    return reply(BulkReply(services().letter_bulks.pause(me(), path.bulk_id)))


@api.post(f"{_ONE}/resume", responses={200: BulkReply})
def resume_bulk(path: BulkPath) -> Response:
    """Go on after a pause, a canary or a stop."""
    return reply(BulkReply(services().letter_bulks.resume(me(), path.bulk_id)))


@api.post(f"{_ONE}/cancel", responses={200: BulkReply})
def cancel_bulk(path: BulkPath) -> Response:
    """End it; letters that were not reached stay as they are."""
    return reply(BulkReply(services().letter_bulks.cancel(me(), path.bulk_id)))


@api.post(f"{_ONE}/undo", responses={200: BulkUndoneReply})
def undo_bulk(path: BulkPath) -> Response:
    """Take back what an ended bulk discard discarded; 409 once nothing can be."""
    return reply(BulkUndoneReply(services().letter_bulks.undo(me(), path.bulk_id)))
