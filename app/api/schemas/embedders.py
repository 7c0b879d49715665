"""Embedders on the wire. The key goes in and never comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, RootModel, WithJsonSchema

from app.api.schemas.base import PageReply
from app.api.schemas.providers import UpdateProvider
from app.services.embedders import EmbedderTest, EmbedderView, TruncateStrategy

# Words of older clients: nothing is cut off; the end is.
_OLDER_WORDS: Mapping[Any, TruncateStrategy] = {"NONE": "split", "END": "truncate"}


def _newer_word(given: Any) -> Any:
    return _OLDER_WORDS.get(given, given) if isinstance(given, str) else given


Truncation = Annotated[
    TruncateStrategy,
    BeforeValidator(_newer_word),
    WithJsonSchema({"type": "string", "enum": ["split", "truncate", "error", *_OLDER_WORDS]}),
]


class EmbedderPath(BaseModel):
    """Names an embedder."""

    embedder_id: int


class UpdateEmbedder(UpdateProvider):
    """What to change; what is missing stays. An empty `api_key` removes the key.

    `truncate_strategy` takes `NONE` for split and `END` for truncate, too. `collection_name` can only be
    null: vector indexes are named by the server.
    """

    batch_size: int = 0
    dimensions: int = 0
    max_input_tokens: int = 0
    truncate_strategy: Truncation = "split"
    collection_name: None = Field(None, exclude=True)


class CreateEmbedder(UpdateEmbedder):
    """A new embedder; what is missing is the provider's default."""

    name: str
    provider: str


class EmbedderReply(RootModel[EmbedderView]):
    """One embedder."""


class EmbedderList(PageReply):
    """A page of embedders."""

    items: list[EmbedderView]


class EmbedderTestReply(RootModel[EmbedderTest]):
    """What the provider answered."""


class ProviderInfo(BaseModel):
    """What an embedder of this provider is like unless told otherwise."""

    provider: str
    title: str
    needs_api_key: bool
    takes_base_url: bool
    base_url: str | None
    model: str
    dimensions: int
    max_input_tokens: int
    batch_size: int
    largest_batch_size: int


class ProviderList(BaseModel):
    """All providers."""

    providers: list[ProviderInfo]
