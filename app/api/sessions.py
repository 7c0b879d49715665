"""/api/auth/sessions."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import accounts, asker
from app.api.replies import nothing, reply
from app.api.schemas.accounts import EndedCount, SessionList, SessionPath
from app.api.schemas.base import WITH_CONFLICT
from app.api.who import in_person
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "sessions",
    __name__,
    url_prefix="/api/auth/sessions",
    abp_tags=[Tag(name="Sessions")],
    abp_responses=WITH_CONFLICT,
)


@api.get("", responses={200: SessionList})
def list_sessions() -> Response:
    """List the browsers in which the user is signed in."""
    found = accounts().sessions.list(in_person(), current=asker().session_id)
    return reply(SessionList(sessions=list(found), total=len(found)))


@api.delete("", responses={200: EndedCount})
@least_role(Role.VIEWER)
def revoke_other_sessions() -> Response:
    """End all of the user's sessions but the one that asks."""
    ended = accounts().sessions.revoke_others(in_person(), current=asker().session_id)
    return reply(EndedCount(ended_count=ended))


@api.delete("/<int:session_id>", responses={204: None})
@least_role(Role.VIEWER)
def revoke_session(path: SessionPath) -> Response:
    """End one session."""
    accounts().sessions.revoke(in_person(), path.session_id)
    return nothing()
