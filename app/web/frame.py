"""What all pages share: addresses of built files, filters, security headers, who asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, current_app, g, request, url_for

from app.security.principal import Principal, Role
from app.web import wording

_BUILD = Path(__file__).parent / "static" / "build"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# No script, style, font or request from anywhere but here, and nothing inline.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def add(web: Blueprint) -> None:
    """Add filters, globals and headers to every page of the blueprint."""
    web.before_request(_refuse_foreign_forms)
    web.after_request(protect)
    web.add_app_template_global(built, "built")
    web.add_app_template_global(is_fragment, "is_fragment")
    web.add_app_template_global(signed_in, "signed_in")
    web.add_app_template_global(looks_only, "looks_only")
    for name, say in wording.FILTERS.items():
        web.add_app_template_filter(cast("Callable[..., Any]", say), name)


def principal() -> Principal:
    """Who asks: what the guard found."""
    return cast("Principal", g.principal)


def signed_in() -> Principal | None:
    """Who can sign out: nobody on error pages of strangers, nobody where there is a single user."""
    asker = g.get("asker")
    return asker.principal if asker is not None and asker.credential == "session" else None


def looks_only() -> bool:
    """Whether whoever asks may change nothing: pages leave out what would only answer that."""
    who = g.get("principal")
    return who is not None and not who.role.covers(Role.OPERATOR)


def is_fragment() -> bool:
    """Whether htmx asks for a part of a page (and not for a page to restore from history)."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


def protect(response: Response) -> Response:
    """Add the security headers that are not there yet; cache built files for good."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint == "web.static" and request.args.get("v"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif response.mimetype == "text/html":
        response.headers["Cache-Control"] = "no-store"
        response.headers["Vary"] = "HX-Request"
    return response


def built(name: str) -> str:
    """Address of a built file with its content's hash, so that browsers may keep it for ever."""
    manifest = _manifest() if not current_app.debug else _manifest.__wrapped__()
    return url_for("web.static", filename=f"build/{name}", v=manifest.get(name, "0"))


@cache
def _manifest() -> dict[str, str]:
    path = _BUILD / "manifest.json"
    if not path.exists():
        current_app.logger.error("the pages' scripts and styles are not built: run `make assets`")
        return {}
    content: dict[str, str] = json.loads(path.read_text())
    return content


def _refuse_foreign_forms() -> None:
    """A form on another site must not act here: its Origin would be that site's."""
    origin = request.headers.get("Origin")
    if request.method not in _SAFE_METHODS and origin and urlsplit(origin).netloc != request.host:
        abort(403, "This form was sent from another site.")
