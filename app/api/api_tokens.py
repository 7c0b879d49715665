"""/api/auth/tokens."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import accounts
from app.api.replies import nothing, reply
from app.api.schemas.accounts import ApiTokenList, ApiTokenPath, CreateApiToken, NewApiTokenReply
from app.api.schemas.base import WITH_CONFLICT, KeyedWindow
from app.api.who import in_person
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "api_tokens",
    __name__,
    url_prefix="/api/auth/tokens",
    abp_tags=[Tag(name="API tokens")],
    abp_responses=WITH_CONFLICT,
)


@api.get("", responses={200: ApiTokenList})
def list_api_tokens(query: KeyedWindow) -> Response:
    """List the user's API tokens, newest first."""
    page = accounts().api_tokens.list(
        in_person(), limit=query.limit, offset=query.offset, cursor=query.cursor
    )
    return reply(ApiTokenList.of(page))


@api.post("", responses={201: NewApiTokenReply})
@least_role(Role.VIEWER)
def create_api_token(body: CreateApiToken) -> Response:
    """Make an API token for a machine; its secret is in this answer and nowhere else."""
    made = accounts().api_tokens.create(
        in_person(), name=body.name, scope=body.scope, expires_in_days=body.expires_in_days
    )
    return reply(NewApiTokenReply(api_token=made.view, token=made.secret), 201)


@api.delete("/<int:api_token_id>", responses={204: None})
@least_role(Role.VIEWER)
def revoke_api_token(path: ApiTokenPath) -> Response:
    """End an API token at once."""
    accounts().api_tokens.revoke(in_person(), path.api_token_id)
    return nothing()
