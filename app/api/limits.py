"""Rate limits before every request: by address before it is known who asks, by person and token after.

There are none for a single user on their own machine, for probes, and for files of the pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Flask, current_app, g, request

from app.api import who
from app.api.address import client_address, network_of
from app.api.context import container
from app.config import Settings
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


def register_before_principal(app: Flask) -> None:
    """Count by address; before the guard finds out who asks, so that guessing is limited, too."""
    app.before_request(_count_address)


def register_after_principal(app: Flask) -> None:
    """Count by person and by token, and what costs more than others by itself."""
    app.before_request(_count_principal)


def _count_address() -> None:
    if who.oidc() is None or request.endpoint in _UNCOUNTED:
        return
    limits, settings = container().rate_limits, container().settings
    network = network_of(client_address() or "unknown")
    if request.endpoint in _SIGN_IN or request.path.startswith(_SIGN_IN_PATHS):
        most = settings.rate_limit_sign_in
        limits.count(Limit(f"sign-in:{network}", most, "of signing in from one address"))
    limits.count(Limit(f"address:{network}", settings.rate_limit_address, "from one address"))


def _count_principal() -> None:
    if who.oidc() is None or "principal" not in g:
        return
    limits, settings = container().rate_limits, container().settings
    owner_id = g.principal.owner_id
    limits.count(Limit(f"user:{owner_id}", settings.rate_limit_user, "of one user"))
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is not None:
        limits.count(Limit(f"token:{digest(header)}", settings.rate_limit_token, "with one token"))
    budget = getattr(current_app.view_functions.get(request.endpoint or ""), "rate_budget", None)
    if budget is not None:
        what_for, most = _BUDGETS[budget]
        limits.count(Limit(f"{budget}:{owner_id}", most(settings), f"of one user {what_for}"))
