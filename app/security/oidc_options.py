"""The settings of sign-in as one value, or none: then there is a single user on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.config import Settings
from app.errors import InvalidInputError
from app.security.principal import Role

_NEEDED = ("oidc_issuer_url", "oidc_client_id", "oidc_client_secret", "public_url")
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
    values = {name: getattr(settings, name) for name in _NEEDED}
    if not values["oidc_issuer_url"] and not values["oidc_client_id"]:
        return None
    missing = [name.upper() for name, value in values.items() if not value]
    if missing:
        raise InvalidInputError(f"sign-in is configured in part: also set {', '.join(missing)}")
    for name in ("oidc_issuer_url", "public_url"):
        _refuse_plain(name, values[name])
    if settings.oidc_audience == settings.oidc_client_id:
        raise InvalidInputError(
            "OIDC_AUDIENCE must differ from OIDC_CLIENT_ID: ID tokens name the client, and they must not "
            "pass for access tokens"
        )
    return OidcOptions(
        issuer=values["oidc_issuer_url"],
        client_id=values["oidc_client_id"],
        client_secret=values["oidc_client_secret"],
        public_url=values["public_url"].rstrip("/"),
        scopes=settings.oidc_scopes,
        audience=settings.oidc_audience,
        role_claim=settings.oidc_role_claim,
        default_role=Role(settings.oidc_default_role),
    )


def _refuse_plain(name: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise InvalidInputError(
            f"{name.upper()} must start with https://: over http anybody on the way could sign in as "
            "somebody else (http is only for this machine's own addresses)"
        )
