"""What all pages of the panel share: who asks, headers with a nonce, errors, answers to acts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask import Blueprint, Response, current_app, g, redirect, request
from flask.typing import ResponseReturnValue
from flask_admin import BaseView
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from app.errors import ExplorerError, InvalidInputError, UnauthenticatedError, UnavailableError
from app.security.principal import Principal, Role

OnError = Callable[[Exception], ResponseReturnValue]
EXTENSION = "semantic-explorer-panel"
_FORM_BYTES = 2 * 1024 * 1024
_MOST_PAGES = 1_000_000


def principal() -> Principal:
    """Who asks: what the guard found."""
    return cast("Principal", g.principal)


def may(role: str) -> bool:
    """Whether who asks has at least this role."""
    return principal().role.covers(Role(role))


def nonce() -> str:
    """What marks the scripts and styles of this answer as ours."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(16)
    return str(g.csp_nonce)


def policy() -> str:
    """Nothing runs or is loaded that this answer does not name, and nothing from elsewhere."""
    named = f"'nonce-{nonce()}'"
    return (
        f"default-src 'none'; script-src {named}; style-src {named}; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def protect(blueprint: Blueprint) -> None:
    """Give a blueprint the panel's limits, headers and error pages."""
    blueprint.before_request(_limit_body)
    blueprint.after_request(_add_headers)
    blueprint.register_error_handler(Exception, answer)


def _limit_body() -> None:
    request.max_content_length = _FORM_BYTES


def _add_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", policy())
    response.headers["Cache-Control"] = "private, no-cache" if _is_asset() else "no-store"
    response.vary.update(("Cookie", "HX-Request"))
    return response


def _is_asset() -> bool:
    return request.endpoint == "panel.static"


def is_fragment() -> bool:
    """Whether a script of the page asks, which shows a message and no page."""
    return request.headers.get("HX-Request") == "true"


def answer(error: Exception) -> ResponseReturnValue:
    """A page that says what failed; to an act of a page's script, the words alone."""
    if isinstance(error, OperationalError | InterfaceError | NoFreeConnectionError):
        said = str(getattr(error, "orig", None) or error).strip().splitlines()
        error = UnavailableError(f"Postgres: {said[0] if said else type(error).__name__}")
    acts = is_fragment() and request.method == "POST"
    if acts and isinstance(error, ExplorerError) and not isinstance(error, UnauthenticatedError):
        return {"message": error.message, "code": error.code}, error.http_status
    return cast("OnError", current_app.extensions[EXTENSION])(error)


def done(url: str, *, leave: bool = False) -> ResponseReturnValue:
    """After an act: the page at `url`. A page's script renews its parts instead, unless it is to `leave`."""
    if not is_fragment():
        return redirect(url, 303)
    return Response(status=204, headers={"HX-Redirect": url} if leave else {})


def page_number() -> int:
    """Which page the address asks for, from 1; what makes no sense is the first one."""
    return min(max(1, request.args.get("page", 1, type=int)), _MOST_PAGES)


def pages(total: int, size: int) -> int:
    """How many pages so many things take, at least one."""
    return max(1, -(-total // size))


def moment(minutes: str | None, until: str | None) -> datetime:
    """What a form's choice of minutes, or its date and time (UTC), says; raises InvalidInputError."""
    try:
        if minutes:
            return datetime.now(UTC) + timedelta(minutes=int(minutes))
        found = datetime.fromisoformat(until or "")
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (OverflowError, ValueError):
        words = "say until when: a number of minutes, or a date and time"
        raise InvalidInputError(words, field="until") from None


class Page(BaseView):  # type: ignore[misc] # Flask-Admin has no types
    """A view of the panel; those routes of Flask-Admin that it does not name are not there."""

    routes: frozenset[str] | None = None
    under = ""  # the address of the page under which the menu shows this one
    _urls: list[tuple[str, str, Any]]  # Flask-Admin's: address, name and methods of each route

    def create_blueprint(self, admin: Any) -> Blueprint:
        """Flask-Admin's blueprint with our limits, headers and errors."""
        if self.routes is not None:
            self._urls = [one for one in self._urls if one[1] in self.routes]
        blueprint: Blueprint = super().create_blueprint(admin)
        protect(blueprint)
        return blueprint

    def _run_view(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Once: Flask-Admin calls again what raised a TypeError, and an act must not be done twice."""
        return fn(self, *args, **kwargs)

    def render(self, template: str, **values: Any) -> str:
        """Render with who asks at hand."""
        page: str = super().render(template, me=principal(), may=may, **values)
        return page
