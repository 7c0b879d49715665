"""Embedders on the wire. The key goes in and never comes out."""

from __future__ import annotations

from pydantic import BaseModel, RootModel

from app.api.schemas.providers import UpdateProvider
from app.services.embedders import EmbedderTest, EmbedderView, TruncateStrategy


class EmbedderPath(BaseModel):
    """Names an embedder."""

    embedder_id: int


class UpdateEmbedder(UpdateProvider):
    """What to change; what is missing stays. An empty `api_key` removes the key."""

    batch_size: int = 0
    dimensions: int = 0
    max_input_tokens: int = 0
    truncate_strategy: TruncateStrategy = "split"


class CreateEmbedder(UpdateEmbedder):
    """A new embedder; what is missing is the provider's default."""

    name: str
    provider: str


class EmbedderReply(RootModel[EmbedderView]):
    """One embedder."""


class EmbedderList(BaseModel):
    """A page of embedders."""

    items: list[EmbedderView]
    total_count: int
    limit: int
    offset: int


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
