"""LLMs on the wire. The key goes in and never comes out."""

from __future__ import annotations

from pydantic import BaseModel, RootModel

from app.api.schemas.base import PageReply
from app.api.schemas.providers import UpdateProvider
from app.services.llms import LlmTest, LlmView


class LlmPath(BaseModel):
    """Names an LLM."""

    llm_id: int


class UpdateLlm(UpdateProvider):
    """What to change; what is missing stays. An empty `api_key` removes the key."""


class CreateLlm(UpdateLlm):
    """A new LLM; what is missing is the provider's default."""

    name: str
    provider: str


class LlmReply(RootModel[LlmView]):
    """One LLM."""


class LlmList(PageReply):
    """A page of LLMs."""

    items: list[LlmView]


class LlmTestReply(RootModel[LlmTest]):
    """What the provider answered."""
