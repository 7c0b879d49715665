"""The audit log on the wire."""

from __future__ import annotations

from pydantic import Field, RootModel

from app.api.schemas.base import QueryString
from app.services.audit import AuditEventPage


class AuditEventsQuery(QueryString):
    """Which events; the token of one page leads to the next, with older ones."""

    limit: int = Field(50, ge=1, le=1000)
    continuation_token: str | None = Field(None, max_length=200)
    action: str | None = Field(None, max_length=100)
    object_kind: str | None = Field(None, max_length=100)
    object_id: str | None = Field(None, max_length=100)


class AuditEventList(RootModel[AuditEventPage]):
    """A page of events, newest first."""
