"""/api/usage: how much there is of everything, per owner."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS, KeyedWindow
from app.api.schemas.usage import UsageList, UsageReply
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "usage", __name__, url_prefix="/api/usage", abp_tags=[Tag(name="Usage")], abp_responses=PROBLEMS
)


@api.get("", responses={200: UsageReply})
def get_usage() -> Response:
    """Count what one has."""
    return reply(UsageReply(services().usages.mine(me())))


@api.get("/owners", responses={200: UsageList})
@least_role(Role.ADMIN)
def list_usage_by_owner(query: KeyedWindow) -> Response:
    """Count what every owner has (for admins)."""
    page = services().usages.all(limit=query.limit, offset=query.offset, cursor=query.cursor)
    return reply(UsageList.of(page))
