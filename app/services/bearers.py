"""Bearer tokens: API tokens of ours, and access tokens of the identity provider."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.errors import UnauthenticatedError
from app.security.principal import Principal
from app.security.tokens import API_TOKEN_PREFIX, digest
from app.services.api_tokens import ApiTokens
from app.services.users import Users

if TYPE_CHECKING:
    from app.security.oidc import Provider

# An access token is judged again after so long: by then its user's role or our keys may have changed.
KEPT_SECONDS = 60.0
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a token stands for, and of which kind it is."""

    principal: Principal
    kind: Literal["api_token", "access_token"]


@dataclass(slots=True)
class Bearers:
    """Looks up API tokens every time: revoking one holds at once. Judged access tokens are kept shortly."""

    api_tokens: ApiTokens
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
