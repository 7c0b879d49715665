"""Windows on what is public."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import KeyedWindow, QueryString


class PublicWindow(KeyedWindow):
    """Which part of what is public."""

    limit: int = Field(50, ge=1, le=200)


class RecentWindow(QueryString):
    """How many of the newest."""

    limit: int = Field(5, ge=0, le=100)
