"""What bodies say of a configured provider, whatever it serves for."""

from __future__ import annotations

from typing import Any

from pydantic import Field, RootModel

from app.api.schemas.base import Body, JsonObject


class UpdateProvider(Body):
    """What to change; what is missing stays. An empty `api_key` removes the key."""

    name: str = ""
    provider: str = ""
    base_url: str | None = None
    model: str = ""
    api_key: str | None = None
    config: JsonObject = Field(default_factory=dict)
    is_public: bool = False


class ServedModels(RootModel[list[Any] | JsonObject]):
    """What a service says of the models that it serves, as it says it."""
