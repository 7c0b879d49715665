"""Stands before every request: whose it is, whether it may come from there, how large it may be.

Routes are private unless their function is marked `@public`; viewers read, operators write, unless a route
is marked `@least_role`.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from flask import Flask, Request, Response, abort, current_app, g, request
from flask.globals import request_ctx
from werkzeug.exceptions import BadRequest

from app.api import limits, who
from app.api.address import client_address
from app.api.context import container
from app.config import Settings
from app.errors import ForbiddenError, InvalidInputError, UnsupportedTypeError
from app.observability.logging import bind, unbind
from app.observability.redaction import hashed
from app.security.oidc_options import oidc_options
from app.security.principal import Principal, Role
from app.services.storable import is_storable

F = TypeVar("F", bound=Callable[..., Any])

JSON_BYTES = 1024 * 1024
# A body of at most this size is taken off the connection even when it is refused unread. Then the client gets
# to read the answer and may use the connection again; after larger ones it closes (gunicorn.conf.py).
FINISHED_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"health.alive", "health.live", "health.ready", "metrics"})
_HTTPS_ONLY = f"max-age={365 * 24 * 3600}"
_PORTS = {"http": 80, "https": 443}
_ASKERS = ("Authorization", "Cookie")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def takes_bytes(most: int | Callable[[Settings], int]) -> Callable[[F], F]:
    """Mark a route whose requests may be larger than other JSON bodies."""

    def mark(function: F) -> F:
        function.most_request_bytes = most  # type: ignore[attr-defined] # read by the guard
        return function

    return mark


def takes_files(function: F) -> F:
    """Mark a route that takes multipart forms."""
    function.takes_multipart = True  # type: ignore[attr-defined] # read by the guard
    return function


def register(app: Flask, settings: Settings) -> None:
    """Hang the guard before and after every request; raises InvalidInputError for an unsafe address."""
    if oidc_options(settings) is None:
        refuse_open_bind(settings.hostname)
    app.before_request(_admit)
    app.after_request(_add_headers)
    app.after_request(_finish_body)
    app.teardown_request(_forget_request)


def refuse_open_bind(hostname: str) -> None:
    """Without sign-in everyone who reaches the server is its owner, so only this machine may reach it."""
    if not _is_local(hostname):
        raise InvalidInputError(
            f"HOSTNAME is {hostname!r}, which other machines can reach, but no sign-in is configured: "
            "everyone would see and delete everything. Set HOSTNAME=127.0.0.1, and use an SSH tunnel from "
            "elsewhere; or let people sign in: set OIDC_ISSUER_URL, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET and "
            "PUBLIC_URL"
        )


def _admit() -> None:
    """All that stands before a route, in this order; `request` is looked up once for all steps."""
    asked = request_ctx.request
    _identify(asked)
    _refuse_foreign_hosts(asked)
    _refuse_foreign_writes(asked)
    limits.count_address(asked)
    if not is_open(asked):
        _set_principal()
        limits.count_principal(asked, g.principal)
        _refuse_lesser_roles(asked, g.principal)
    _check_body(asked)


def _identify(asked: Request) -> None:
    given = asked.environ.get("HTTP_X_REQUEST_ID", "")  # asking for a header that is missing costs more
    g.request_id = given if _REQUEST_ID.fullmatch(given) else _new_request_id()
    g.log_fields = bind(request_id=g.request_id)


def _new_request_id() -> str:
    """A random UUID, and no secret: asking the system for chance would let go of the interpreter."""
    return str(UUID(int=random.getrandbits(128), version=4))


def _forget_request(_error: BaseException | None) -> None:
    if "log_fields" in g:
        unbind(g.pop("log_fields"))


def _refuse_foreign_hosts(asked: Request) -> None:
    """A page elsewhere may point its own name at this machine (DNS rebinding): then Host is that name."""
    name = _host_of(f"//{asked.host}")
    if who.oidc() is not None:
        # Probes come by the address of a pod or machine, and learn nothing about anybody.
        if name not in _public_name() and asked.endpoint not in _PROBES:
            abort(403, f"this server answers to the host of PUBLIC_URL, not to {name!r}")
        return
    if name not in _LOCAL_NAMES and name not in _public_name():
        abort(403, f"this server answers to localhost, not to {name!r}; set PUBLIC_URL to add a name")
    # The bind address may be overridden on gunicorn's command line; who calls may not be.
    address = client_address()
    if address and not _is_local(address):
        abort(403, "without sign-in this server answers only to its own machine")


def _refuse_foreign_writes(asked: Request) -> None:
    """A form or script of another site must not act here."""
    if asked.method in _SAFE_METHODS:
        return
    site, origin = asked.headers.get("Sec-Fetch-Site"), asked.headers.get("Origin")
    if site is not None and site not in {"same-origin", "none"}:
        abort(403, "this request was sent from another site")
    if origin is not None and site is None and not _is_ours(origin):
        abort(403, "this request was sent from another site")
    if who.comes_with_cookie() and not (site == "same-origin" or (origin is not None and _is_ours(origin))):
        # Every browser of today says where a write comes from; whatever does not is none, and needs a token.
        abort(403, "a session's cookie is for browsers: send an API token (Authorization: Bearer) instead")


def _is_ours(origin: str) -> bool:
    options = who.oidc()
    if options is not None:  # what ends TLS before us may change scheme and Host, PUBLIC_URL stays
        return origin == _origin(options.public_url)
    return urlsplit(origin).netloc == request.host


def _origin(url: str) -> str:
    """Scheme, host and port as browsers write them: lower case, without the scheme's own port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in {None, _PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _set_principal() -> None:
    g.asker = who.find()
    g.principal = g.asker.principal
    whose = hashed(g.principal.owner_id)
    bind(user=whose, tenant=whose)


def is_open(asked: Request) -> bool:
    """Whether the route tells anybody what it tells: unknown, marked `@public`, or a built file."""
    if asked.endpoint is None or asked.endpoint == "web.static":
        return True
    return bool(_mark(asked, "is_public_route", default=False))


def _refuse_lesser_roles(asked: Request, who_asks: Principal) -> None:
    by_method = Role.VIEWER if asked.method in _SAFE_METHODS else Role.OPERATOR
    least = _mark(asked, "least_role", default=by_method)
    if not who_asks.role.covers(least):
        raise ForbiddenError(f"this needs the role {least}; yours here is {who_asks.role}")


def _check_body(asked: Request) -> None:
    """JSON only, unless the route takes files; and only what the database can store."""
    if asked.method in _SAFE_METHODS or asked.endpoint is None or not asked.path.startswith("/api/"):
        return  # an unknown address or method is answered as such, whatever the body is
    asked.max_content_length = _most_bytes(asked)
    if _mark(asked, "takes_multipart", default=False):
        if asked.mimetype != "multipart/form-data":
            raise UnsupportedTypeError("the body must be a form (Content-Type: multipart/form-data)")
    elif asked.get_data(cache=True):
        _check_json(asked)


def _check_json(asked: Request) -> None:
    if not asked.is_json:
        raise UnsupportedTypeError("the body must be JSON (Content-Type: application/json)")
    try:
        body = asked.get_json()
        _refuse_unstorable(body, "body")
    except RecursionError:
        raise InvalidInputError("the body is nested too deeply") from None
    except BadRequest as error:
        raise InvalidInputError(f"the body is not valid JSON: {_json_fault(error)}") from None
    if not isinstance(body, dict):
        raise InvalidInputError("the body must be a JSON object")


def _json_fault(error: BadRequest) -> str:
    """What the parser said; Flask keeps it behind an error of its own."""
    fault = error.__cause__ if isinstance(error.__cause__, BadRequest) else error
    return (fault.description or "").removeprefix("Failed to decode JSON object: ")


def _refuse_unstorable(value: Any, place: str) -> None:
    if isinstance(value, str):
        if not is_storable(value):
            raise InvalidInputError(f"{place} must not hold NUL characters or half surrogate pairs")
    elif isinstance(value, dict):
        for key, each in value.items():
            _refuse_unstorable(key, place)
            _refuse_unstorable(each, str(key))
    elif isinstance(value, list):
        for each in value:
            _refuse_unstorable(each, place)


def _most_bytes(asked: Request) -> int:
    most = _mark(asked, "most_request_bytes", default=JSON_BYTES)
    return int(most(container().settings) if callable(most) else most)


def _mark(asked: Request, name: str, *, default: Any) -> Any:
    function = current_app.view_functions.get(asked.endpoint or "")
    return getattr(function, name, default)


def _public_name() -> frozenset[str]:
    url = container().settings.public_url
    return frozenset({_host_of(url)}) if url else frozenset()


@lru_cache(maxsize=1024)
def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_local(address: str) -> bool:
    if address in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _add_headers(response: Response) -> Response:
    asked = request_ctx.request
    there = {name.lower() for name, _ in response.headers}  # asking for each costs an exception
    wanted = [*_HEADERS.items(), ("X-Request-ID", g.get("request_id", ""))]
    options = who.oidc()
    if options is not None and options.secure_cookies:
        wanted.append(("Strict-Transport-Security", _HTTPS_ONLY))
    if asked.path.startswith("/api/"):
        wanted.append(("Cache-Control", "no-store"))
    if not (asked.endpoint or "").endswith(".static"):
        # What a browser keeps, it keeps for one who asks, and not for the next at the same desk.
        if "vary" in there:
            response.vary.update(_ASKERS)
        else:
            wanted.append(("Vary", ", ".join(_ASKERS)))
    response.headers.extend([each for each in wanted if each[0].lower() not in there])
    return response


def _finish_body(response: Response) -> Response:
    asked = request.environ
    if "CONTENT_LENGTH" in asked and 0 < (request.content_length or 0) <= FINISHED_BYTES:
        source = asked["wsgi.input"]
        while source.read(_PIECE_BYTES):
            pass
    return response


def loads(raw: str | bytes) -> Any:
    """JSON as the standard has it: NaN and Infinity are refused."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    return json.loads(raw, parse_constant=refuse)
