"""The container's part about who asks: users, sessions, API tokens and the identity provider.

The libraries of sign-in are imported by the first who signs in: workers never need them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.config import Settings
from app.once import once
from app.security.crypto import SecretBox
from app.security.oidc_options import OidcOptions, oidc_options
from app.security.outbound import OutboundClient, OutboundOptions
from app.security.principal import Role
from app.services.api_tokens import ApiTokens
from app.services.audit_trail import AuditTrail
from app.services.bearers import Bearers
from app.services.program_sign_in import ProgramSignIn
from app.services.programs import Programs
from app.services.sessions import Limits, Sessions
from app.services.sign_in import SignIn
from app.services.users import Users
from app.storage.postgres.session import Database

if TYPE_CHECKING:
    from app.security.oidc import Provider


class Accounts:
    """Each thing is built on first use."""

    def __init__(self, settings: Settings, database: Database, secrets: SecretBox, trail: AuditTrail) -> None:
        self._settings = settings
        self._database = database
        self._secrets = secrets
        self._trail = trail

    @once
    def oidc(self) -> OidcOptions | None:
        """How people sign in; None for a single user. Raises InvalidInputError for half of it."""
        return oidc_options(self._settings)

    @once
    def http(self) -> OutboundClient:
        """Calls the identity provider, which may live on a private address."""
        issuer = urlsplit(self.oidc.issuer).netloc if self.oidc else ""
        return OutboundClient(OutboundOptions(allowed_hosts=(*self._settings.outbound_allowed_hosts, issuer)))

    @once
    def provider(self) -> Provider:
        """The operator's identity provider."""
        from app.security.oidc import Provider

        assert self.oidc is not None
        return Provider(self.oidc, self.http)

    @once
    def users(self) -> Users:
        """Whom the identity provider knows."""
        return Users(self._database, self.oidc.default_role if self.oidc else Role.OPERATOR)

    @once
    def sessions(self) -> Sessions:
        """Browsers that are signed in."""
        return Sessions(self._database, self._secrets, self._limits)

    @once
    def programs(self) -> Programs:
        """Programs that are signed in."""
        return Programs(self._database, self._trail, self._limits)

    @property
    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            lifetime=timedelta(seconds=settings.oidc_session_timeout_secs),
            idle=timedelta(seconds=settings.oidc_inactivity_timeout_secs),
            most=settings.oidc_max_concurrent_sessions,
        )

    @once
    def sign_in(self) -> SignIn:
        """To the identity provider and back."""
        return SignIn(self._database, self.provider, self.users, self.sessions)

    @once
    def program_sign_in(self) -> ProgramSignIn:
        """To the identity provider and back, for programs."""
        return ProgramSignIn(self.provider, self.users, self.programs)

    @once
    def api_tokens(self) -> ApiTokens:
        """Keys for machines."""
        return ApiTokens(self._database)

    @once
    def bearers(self) -> Bearers:
        """Whom a bearer token stands for."""
        return Bearers(self.api_tokens, self.programs, self.users, self.provider)

    def close(self) -> None:
        """Close idle connections to the provider."""
        if "http" in vars(self):
            self.http.close()
