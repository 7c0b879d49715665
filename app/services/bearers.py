"""Bearer tokens: API tokens and access tokens of ours, and access tokens of the identity provider."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.errors import UnauthenticatedError
from app.security.principal import Principal
from app.security.tokens import ACCESS_TOKEN_PREFIX, API_TOKEN_PREFIX, digest
from app.services.api_tokens import ApiTokens
from app.services.programs import Programs
from app.services.users import Users

if TYPE_CHECKING:
    from app.security.oidc import Provider

# An access token is judged again after so long: by then its user's role or our keys may have changed.
KEPT_SECONDS = 60.0
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token stands for, of which kind it is, and which session of a program it belongs to."""

    principal: Principal
    kind: Literal["api_token", "access_token"]
    session_id: int | None = None


@dataclass(slots=True)
class Bearers:
    """Looks up our own tokens every time: revoking one holds at once. The provider's are kept shortly."""

    api_tokens: ApiTokens
    programs: Programs
    users: Users
    provider: Provider
    _kept: OrderedDict[str, tuple[Principal, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, token: str) -> Bearer:
        """Whom it stands for. Raises UnauthenticatedError, ProviderUnavailableError, UnavailableError."""
        if token.startswith(API_TOKEN_PREFIX):
            principal = self.api_tokens.find(token)
            if principal is None:
                raise UnauthenticatedError("the API token is unknown, revoked or has ended")
            return Bearer(principal, "api_token")
        if token.startswith(ACCESS_TOKEN_PREFIX):
            found = self.programs.find(token)
            if found is None:
                raise UnauthenticatedError("the access token is unknown, revoked or has ended: refresh it")
            return Bearer(found.principal, "access_token", found.session_id)
        key = digest(token)
        principal = self._recall(key)
        if principal is None:
            identity, expires_at = self.provider.identify(token)
            principal = self.users.admit(identity)
            self._keep(key, principal, min(expires_at, time.time() + KEPT_SECONDS))
        return Bearer(principal, "access_token")

    def _recall(self, key: str) -> Principal | None:
        with self._lock:
            principal, until = self._kept.get(key, (None, 0.0))
            return principal if time.time() < until else None

    def _keep(self, key: str, principal: Principal, until: float) -> None:
        with self._lock:
            self._kept[key] = (principal, until)
            self._kept.move_to_end(key)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
