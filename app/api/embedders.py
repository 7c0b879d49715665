"""/api/embedders."""

from __future__ import annotations

from typing import cast

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import nothing, reply
from app.api.schemas.base import WITH_CONFLICT, KeyedSearchWindow
from app.api.schemas.embedders import (
    CreateEmbedder,
    EmbedderList,
    EmbedderPath,
    EmbedderReply,
    EmbedderTestReply,
    ProviderInfo,
    ProviderList,
    UpdateEmbedder,
)
from app.pipeline.embedding.registry import PROVIDERS
from app.services.embedders import EmbedderFields

api = APIBlueprint(
    "embedders",
    __name__,
    url_prefix="/api/embedders",
    abp_tags=[Tag(name="Embedders")],
    abp_responses=WITH_CONFLICT,
)
_ONE = "/<int:embedder_id>"


@api.get("", responses={200: EmbedderList})
def list_embedders(query: KeyedSearchWindow) -> Response:
    """List the owner's embedders."""
    page = services().embedders.list(
        me(), limit=query.limit, offset=query.offset, cursor=query.cursor, search=query.search
    )
    return reply(EmbedderList.of(page))


@api.get("/providers", responses={200: ProviderList})
def list_providers() -> Response:
    """List the providers with their defaults."""
    found = [
        ProviderInfo(
            provider=name,
            title=each.title,
            needs_api_key=each.needs_api_key,
            takes_base_url=each.takes_base_url,
            base_url=each.default_base_url,
            model=each.default_model,
            dimensions=each.default_dimensions,
            max_input_tokens=each.default_max_input_tokens,
            batch_size=each.default_batch_size,
            largest_batch_size=each.largest_batch_size,
        )
        for name, each in PROVIDERS.items()
    ]
    return reply(ProviderList(providers=found))


@api.post("", responses={201: EmbedderReply})
def create_embedder(body: CreateEmbedder) -> Response:
    """Make an embedder."""
    fields = cast("EmbedderFields", body.model_dump(exclude_unset=True))
    return reply(EmbedderReply(services().embedders.create(me(), fields)), 201)


@api.get(_ONE, responses={200: EmbedderReply})
def get_embedder(path: EmbedderPath) -> Response:
    """Read one embedder."""
    return reply(EmbedderReply(services().embedders.get(me(), path.embedder_id)))


@api.patch(_ONE, responses={200: EmbedderReply})
def update_embedder(path: EmbedderPath, body: UpdateEmbedder) -> Response:
    """Change what the body names; 409 for what would change vectors that are kept."""
    fields = cast("EmbedderFields", body.model_dump(exclude_unset=True))
    return reply(EmbedderReply(services().embedders.update(me(), path.embedder_id, fields)))


@api.delete(_ONE, responses={204: None})
def delete_embedder(path: EmbedderPath) -> Response:
    """Delete an embedder; 409 while an embedded dataset uses it."""
    services().embedders.delete(me(), path.embedder_id)
    return nothing()


@api.post(f"{_ONE}/test", responses={200: EmbedderTestReply})
def test_embedder(path: EmbedderPath) -> Response:
    """Embed one text and say what came back."""
    return reply(EmbedderTestReply(services().embedders.test(me(), path.embedder_id)))
