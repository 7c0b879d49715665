"""Rate limits before every request: by address before it is known who asks, by person and token after.

There are none for a single user on their own machine, for probes, and for files of the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Request, current_app

from app.api import who
from app.api.address import client_address, network_of
from app.api.context import container
from app.config import Settings
from app.security.principal import Principal
from app.security.tokens import digest
from app.services.rate_limits import Limit

_UNCOUNTED = frozenset({"health.live", "health.ready", "metrics", "web.static"})
# They cost the identity provider's time as well as ours, and are what somebody who guesses would try.
_SIGN_IN = frozenset({"auth.start", "auth.auth_callback"})
_SIGN_IN_PATHS = ("/api/auth/", "/api/token")
# What costs more than to look has limits of its own, so that one does not use up the other (marks.budget).
_BUDGETS: Mapping[str, tuple[str, Callable[[Settings], int]]] = {
    "search": ("for searching", lambda settings: settings.rate_limit_search),
    "upload": ("for uploads and pushes", lambda settings: settings.rate_limit_upload),
    "stream": ("for event streams", lambda settings: settings.rate_limit_stream),
}


def count_address(asked: Request) -> None:
    """Count by address; before the guard finds out who asks, so that guessing is limited, too."""
    if who.oidc() is None or asked.endpoint in _UNCOUNTED:
        return
    limits, settings = container().rate_limits, container().settings
    network = network_of(client_address() or "unknown")
    if asked.endpoint in _SIGN_IN or asked.path.startswith(_SIGN_IN_PATHS):
        most = settings.rate_limit_sign_in
        limits.count(Limit(f"sign-in:{network}", most, "of signing in from one address"))
    limits.count(Limit(f"address:{network}", settings.rate_limit_address, "from one address"))


def count_principal(asked: Request, principal: Principal) -> None:
    """Count by person and by token, and what costs more than others by itself."""
    if who.oidc() is None:
        return
    limits, settings = container().rate_limits, container().settings
    owner_id = principal.owner_id
    limits.count(Limit(f"user:{owner_id}", settings.rate_limit_user, "of one user"))
    header = asked.environ.get("HTTP_AUTHORIZATION")
    if header is not None:
        limits.count(Limit(f"token:{digest(header)}", settings.rate_limit_token, "with one token"))
    budget = getattr(current_app.view_functions.get(asked.endpoint or ""), "rate_budget", None)
    if budget is not None:
        what_for, most = _BUDGETS[budget]
        limits.count(Limit(f"{budget}:{owner_id}", most(settings), f"of one user {what_for}"))
