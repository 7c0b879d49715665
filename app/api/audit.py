"""/api/audit-events: who did what to one's things."""

from __future__ import annotations

from flask import Flask, Response, g
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.address import client_address
from app.api.context import container, me
from app.api.replies import reply
from app.api.schemas.audit import AuditEventList, AuditEventsQuery
from app.api.schemas.base import PROBLEMS
from app.security.audit import Origin, reset_origin, set_origin

api = APIBlueprint(
    "audit",
    __name__,
    url_prefix="/api/audit-events",
    abp_tags=[Tag(name="Audit log")],
    abp_responses=PROBLEMS,
)


def register(app: Flask) -> None:
    """Say before every request on whose behalf it is; the guard, which knows it, comes first."""
    app.before_request(_set_origin)
    app.teardown_request(_forget_origin)


def _set_origin() -> None:
    who = g.get("principal")
    actor, owner_id = (who.owner_id, who.owner_id) if who else ("anonymous", None)
    g.audit_origin = set_origin(Origin(actor, owner_id, client_address(), g.get("request_id")))


def _forget_origin(_error: BaseException | None) -> None:
    if "audit_origin" in g:
        reset_origin(g.pop("audit_origin"))


@api.get("", responses={200: AuditEventList})
def list_audit_events(query: AuditEventsQuery) -> Response:
    """List what happened to the owner's things, or to all for an admin, newest first."""
    page = container().audit.list(
        me(),
        limit=query.limit,
        token=query.continuation_token,
        action=query.action,
        object_kind=query.object_kind,
        object_id=query.object_id,
    )
    return reply(AuditEventList(page))
