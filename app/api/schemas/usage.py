"""Usage on the wire."""

from __future__ import annotations

from pydantic import BaseModel, RootModel

from app.services.usage import Usage


class UsageReply(RootModel[Usage]):
    """One owner's usage."""


class UsageList(BaseModel):
    """A page of owners with what each has."""

    items: list[Usage]
    total_count: int
    limit: int
    offset: int
