"""Usage on the wire."""

from __future__ import annotations

from pydantic import RootModel

from app.api.schemas.base import PageReply
from app.services.usage import Usage


class UsageReply(RootModel[Usage]):
    """One owner's usage."""


class UsageList(PageReply):
    """A page of owners with what each has."""

    items: list[Usage]
