"""/api/users."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import accounts, me
from app.api.replies import reply
from app.api.schemas.accounts import UserReply
from app.api.schemas.base import PROBLEMS

api = APIBlueprint(
    "users", __name__, url_prefix="/api/users", abp_tags=[Tag(name="Users")], abp_responses=PROBLEMS
)


@api.get("/@me", responses={200: UserReply})
def get_me() -> Response:
    """Read who asks, as the identity provider describes them."""
    return reply(UserReply(accounts().users.describe(me())))
