"""Who asks: found in the Authorization header or in the session's cookie, or the single user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from flask import g, request

from app.api.context import container, services
from app.errors import ConflictError, ExplorerError, ForbiddenError, UnauthenticatedError
from app.security.oidc_options import OidcOptions
from app.security.principal import SINGLE_USER, Principal

_SCHEME = "bearer "
NOBODY_SIGNS_IN = "nobody signs in here: this server has a single user, and its API needs no token"
# Parts of a page that is left open read themselves again: that is nobody at work.
_BACKGROUND = ("/parts/", "/admin/parts/")


@dataclass(frozen=True, slots=True)
class Asker:
    """A principal and how it is known: what may be done with it depends on that."""

    principal: Principal
    credential: Literal["single_user", "session", "api_token", "access_token"]
    session_id: int | None = None


def oidc() -> OidcOptions | None:
    """How people sign in; None for a single user."""
    return container().accounts.oidc


def session_cookie() -> str:
    """Name of the session's cookie; with the prefix, browsers hold it to this host and to https."""
    return _prefixed("session")


def sign_in_cookie() -> str:
    """Name of the cookie that ties a sign-in to its browser."""
    return _prefixed("sign-in")


def session_token() -> str | None:
    """The session's token as the browser sent it."""
    return request.cookies.get(session_cookie()) or None


def comes_with_cookie() -> bool:
    """Whether it is the browser, of itself, that says who asks: another site could make it do so."""
    return oidc() is not None and "HTTP_AUTHORIZATION" not in request.environ and session_token() is not None


def find() -> Asker:
    """Who asks. Raises UnauthenticatedError, ProviderUnavailableError, UnavailableError."""
    if oidc() is None:
        services().owners.ensure(SINGLE_USER)
        return Asker(SINGLE_USER, "single_user")
    header = request.environ.get("HTTP_AUTHORIZATION")
    if header is not None:
        return _by_header(header)
    token = session_token()
    used = not request.path.startswith(_BACKGROUND)
    found = container().accounts.sessions.find(token, used=used) if token else None
    if found is None:
        raise UnauthenticatedError("sign in at /login, or send a bearer token")
    return Asker(found.principal, "session", found.session_id)


def in_person() -> Principal:
    """Who asks, if it is a person signed in; raises ForbiddenError, ConflictError.

    Whoever finds a machine's token must not make himself more of them, nor lock its owner out.
    """
    asker: Asker = g.asker
    if asker.credential == "single_user":
        raise ConflictError(NOBODY_SIGNS_IN)
    if asker.credential == "api_token":
        raise ForbiddenError("an API token cannot manage sessions and tokens: sign in")
    return asker.principal


def still_stands() -> Callable[[], bool]:
    """A question to put again during a long answer: whether the one who asked may still ask."""
    accounts, token, header = container().accounts, session_token(), request.environ.get("HTTP_AUTHORIZATION")
    if accounts.oidc is None:
        return lambda: True

    def ask() -> bool:
        try:
            if header is not None:
                accounts.bearers.find(header[len(_SCHEME) :])
                return True
            return accounts.sessions.find(token or "", used=False) is not None
        except UnauthenticatedError:
            return False
        except ExplorerError:  # a server is away: that is no reason to send anybody off
            return True

    return ask


def _by_header(header: str) -> Asker:
    if not header.lower().startswith(_SCHEME):
        raise UnauthenticatedError("the Authorization header must read: Bearer <token>")
    found = container().accounts.bearers.find(header[len(_SCHEME) :].strip())
    return Asker(found.principal, found.kind, found.session_id)


def _prefixed(name: str) -> str:
    options = oidc()
    return f"__Host-explorer-{name}" if options and options.secure_cookies else f"explorer-{name}"
