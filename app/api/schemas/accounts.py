"""Users, sessions and API tokens on the wire. A token's secret is in one answer and in no other."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, Title
from app.services.api_tokens import LONGEST_DAYS, ApiTokenView
from app.services.sessions import SessionView
from app.services.users import UserView


class UserReply(RootModel[UserView]):
    """The one who asks."""


class SessionPath(BaseModel):
    """Names a session."""

    session_id: int


class SessionList(BaseModel):
    """The user's sessions."""

    sessions: list[SessionView]
    total: int


class EndedCount(BaseModel):
    """How many sessions were ended."""

    ended_count: int


class ApiTokenPath(BaseModel):
    """Names an API token."""

    api_token_id: int


class CreateApiToken(Body):
    """A new API token: `read` looks and searches, `write` changes too, `admin` does what its owner may."""

    name: Title
    scope: Literal["read", "write", "admin"] = "read"
    expires_in_days: int = Field(90, ge=1, le=LONGEST_DAYS)


class ApiTokenList(BaseModel):
    """A page of API tokens."""

    items: list[ApiTokenView]
    total_count: int
    limit: int
    offset: int


class NewApiTokenReply(BaseModel):
    """An API token; `token` is its secret, shown this once."""

    api_token: ApiTokenView
    token: str
