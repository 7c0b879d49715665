"""The settings of sign-in as one value, or none: then there is a single user on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.config import Settings
from app.errors import InvalidInputError
from app.security.principal import Role

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class OidcOptions:
    """How this server signs people in. `issuer` to the letter, `public_url` without a slash at its end."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    public_url: str
    scopes: str
    audience: str | None
    role_claim: str | None
    default_role: Role

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends people back to; must be registered there."""
        return f"{self.public_url}/auth_callback"

    @property
    def signed_out_uri(self) -> str:
        """Where the provider may send people after they have signed out there."""
        return f"{self.public_url}/login"

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers come over https, so that cookies can be held to it."""
        return self.public_url.startswith("https://")


def oidc_options(settings: Settings) -> OidcOptions | None:
    """Read them. Raises InvalidInputError that names what is missing or unsafe."""
    needed = {
        "OIDC_ISSUER_URL": settings.oidc_issuer_url,
        "OIDC_CLIENT_ID": settings.oidc_client_id,
        "OIDC_CLIENT_SECRET": settings.oidc_client_secret,
        "PUBLIC_URL": settings.public_url,
    }
    if not needed["OIDC_ISSUER_URL"] and not needed["OIDC_CLIENT_ID"]:
        return None
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise InvalidInputError(f"sign-in is configured in part: also set {', '.join(missing)}")
    for name in ("OIDC_ISSUER_URL", "PUBLIC_URL"):
        _refuse_plain(name, needed[name])
    if settings.oidc_audience == settings.oidc_client_id:
        raise InvalidInputError(
            "OIDC_AUDIENCE must differ from OIDC_CLIENT_ID: ID tokens name the client, and they must not "
            "pass for access tokens"
        )
    return OidcOptions(
        issuer=settings.oidc_issuer_url,
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret,
        public_url=settings.public_url.rstrip("/"),
        scopes=settings.oidc_scopes,
        audience=settings.oidc_audience,
        role_claim=settings.oidc_role_claim,
        default_role=Role(settings.oidc_default_role),
    )


def _refuse_plain(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise InvalidInputError(
            f"{name} must start with https://: over http anybody on the way could sign in as "
            "somebody else (http is only for this machine's own addresses)"
        )
