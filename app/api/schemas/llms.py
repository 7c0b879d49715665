"""LLMs on the wire. The key goes in and never comes out."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, JsonObject
from app.services.llms import LlmTest, LlmView


class LlmPath(BaseModel):
    """Names an LLM."""

    llm_id: int


class UpdateLlm(Body):
    """What to change; what is missing stays. An empty `api_key` removes the key."""

    name: str = ""
    provider: str = ""
    base_url: str | None = None
    model: str = ""
    api_key: str | None = None
    config: JsonObject = Field(default_factory=dict)
    is_public: bool = False


class CreateLlm(UpdateLlm):
    """A new LLM; what is missing is the provider's default."""

    name: str
    provider: str


class LlmReply(RootModel[LlmView]):
    """One LLM."""


class LlmList(BaseModel):
    """A page of LLMs."""

    items: list[LlmView]
    total_count: int
    limit: int
    offset: int


class LlmTestReply(RootModel[LlmTest]):
    """What the provider answered."""
