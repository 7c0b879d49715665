"""Windows on what is public."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import QueryString


class PublicWindow(QueryString):
    """Which part of what is public."""

    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=1_000_000_000)


class RecentWindow(QueryString):
    """How many of the newest."""

    limit: int = Field(5, ge=0, le=100)
