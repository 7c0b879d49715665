"""Users, sessions and API tokens on the wire. A token's secret is in one answer and in no other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, RootModel

from app.api.schemas.base import Body, PageReply, Title
from app.services.api_tokens import LONGEST_DAYS, ApiTokenView
from app.services.program_sign_in import SignedInProgram
from app.services.sessions import SessionView
from app.services.users import UserInfo, UserView


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


class ApiTokenList(PageReply):
    """A page of API tokens."""

    items: list[ApiTokenView]


class NewApiTokenReply(BaseModel):
    """An API token; `token` is its secret, shown this once."""

    api_token: ApiTokenView
    token: str


# What the identity provider or we have made comes back whole, and nothing else is as long.
Opaque = Annotated[str, Field(min_length=1, max_length=4096)]


class AuthorizationReply(BaseModel):
    """Where a program sends its person; nonce and verifier come back with the code, to POST /api/token."""

    authorization_url: str
    nonce: str
    pkce_verifier: str


class RedeemCode(Body):
    """A code from the address that the provider sent the person back to."""

    code: Opaque
    nonce: Opaque
    pkce_verifier: Opaque


class DeviceGrantReply(BaseModel):
    """Where a person lets the device in, and with which code; the program asks every `interval` seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: int
    interval: int


class PollDevice(Body):
    """The device whose person may have decided."""

    device_code: Opaque


class RefreshTokens(Body):
    """A refresh token, which is good once."""

    refresh_token: Opaque


class TokenReply(BaseModel):
    """A program's tokens: for `Authorization: Bearer`, and for the next ones. Seconds in `expires_in`."""

    access_token: str
    id_token: str | None
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 not a secret
    expires_in: int
    user_info: UserInfo

    @classmethod
    def of(cls, program: SignedInProgram) -> TokenReply:
        """The reply about a program that has just signed in, or goes on."""
        tokens = program.tokens
        return cls(
            access_token=tokens.access_token,
            id_token=program.id_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in,
            user_info=program.user_info,
        )
