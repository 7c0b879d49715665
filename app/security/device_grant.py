"""The grant for devices without a browser of their own (RFC 8628): what it begins with, what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import (
    AuthorizationPendingError,
    ExplorerError,
    ForbiddenError,
    GoneError,
    ProviderUnavailableError,
    SlowDownError,
)

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
LIFETIME_SECONDS, INTERVAL_SECONDS = 300, 5  # where the provider says nothing
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class DeviceGrant:
    """What a program shows a person who signs it in elsewhere (RFC 8628, 3.2). Times are seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: int
    interval: int


def not_let_in(error: str) -> ExplorerError:
    """What a device hears while, or because, nobody has let it in; `error` is the provider's word."""
    if error == "authorization_pending":
        return AuthorizationPendingError(
            "nobody has let this device in yet", retry_after_seconds=INTERVAL_SECONDS
        )
    if error == "slow_down":
        return SlowDownError(
            "asked too often: wait five seconds longer", retry_after_seconds=2 * INTERVAL_SECONDS
        )
    if error == "access_denied":
        return ForbiddenError("this device was not let in")
    if error in {"expired_token", "invalid_grant"}:  # the latter also of codes that were used, or never were
        return GoneError("the device code has ended: begin again", field="device_code")
    return ProviderUnavailableError(f"the identity provider said {error[:_LONGEST]!r}")
