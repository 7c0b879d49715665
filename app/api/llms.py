"""/api/llms."""

from __future__ import annotations

from typing import cast

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import nothing, reply
from app.api.schemas.base import WITH_CONFLICT, KeyedSearchWindow
from app.api.schemas.llms import CreateLlm, LlmList, LlmPath, LlmReply, LlmTestReply, UpdateLlm
from app.services.llms import LlmFields

api = APIBlueprint(
    "llms",
    __name__,
    url_prefix="/api/llms",
    abp_tags=[Tag(name="LLMs")],
    abp_responses=WITH_CONFLICT,
)
_ONE = "/<int:llm_id>"


@api.get("", responses={200: LlmList})
def list_llms(query: KeyedSearchWindow) -> Response:
    """List the owner's LLMs."""
    page = services().llms.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return reply(LlmList.of(page))


@api.post("", responses={201: LlmReply})
def create_llm(body: CreateLlm) -> Response:
    """Make an LLM."""
    fields = cast("LlmFields", body.model_dump(exclude_unset=True))
    return reply(LlmReply(services().llms.create(me(), fields)), 201)


@api.get(_ONE, responses={200: LlmReply})
def get_llm(path: LlmPath) -> Response:
    """Read one LLM."""
    return reply(LlmReply(services().llms.get(me(), path.llm_id)))


@api.patch(_ONE, responses={200: LlmReply})
def update_llm(path: LlmPath, body: UpdateLlm) -> Response:
    """Change what the body names."""
    fields = cast("LlmFields", body.model_dump(exclude_unset=True))
    return reply(LlmReply(services().llms.update(me(), path.llm_id, fields)))


@api.delete(_ONE, responses={204: None})
def delete_llm(path: LlmPath) -> Response:
    """Delete an LLM; 409 while a visualization transform names it."""
    services().llms.delete(me(), path.llm_id)
    return nothing()


@api.post(f"{_ONE}/test", responses={200: LlmTestReply})
def test_llm(path: LlmPath) -> Response:
    """Put one question and say what came back."""
    return reply(LlmTestReply(services().llms.test(me(), path.llm_id)))
