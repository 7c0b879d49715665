"""The way to the identity provider, back, and out again: three addresses that only browsers go to."""

from __future__ import annotations

import html
import logging
from contextlib import suppress
from typing import cast
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, Response, current_app, g, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from app.api import who
from app.api.address import client_address
from app.api.context import accounts, container
from app.api.errors import explorer_error
from app.errors import ExplorerError, RateLimitedError, UnavailableError
from app.security.marks import public
from app.security.oidc_options import OidcOptions
from app.services.audit_trail import FAILURE
from app.services.sessions import Browser
from app.services.sign_in import LIFETIME

_log = logging.getLogger(__name__)

_MOST_PATH = 2000
_OWN_PATHS = ("/login", "/logout", "/auth_callback")

ERROR_PAGE = "page-of-an-error"  # the extension that makes one, for people who come to these addresses

browser = Blueprint("auth", __name__)


@browser.get("/login/start")
@public
def start() -> BaseResponse:
    """Send a person to the provider, with a cookie that ties the answer to this browser."""
    options = who.oidc()
    if options is None:
        return redirect("/")
    try:
        departure = accounts().sign_in.begin(safe_path(request.args.get("next", "/")))
    except ExplorerError as error:
        return _failed(error)
    response = redirect(departure.url, 303)
    _set_cookie(
        response, options, who.sign_in_cookie(), departure.browser_secret, int(LIFETIME.total_seconds())
    )
    return _unkept(response)


@browser.get("/auth_callback")
@public
def auth_callback() -> BaseResponse:
    """Take a person back: judge the answer, open a session under a new cookie, go where they wanted to."""
    options = who.oidc()
    if options is None:
        return redirect("/")
    secret = request.cookies.get(who.sign_in_cookie(), "")
    at = Browser(client_address(), request.headers.get("User-Agent"))
    answer = request.args.to_dict()
    try:
        back = accounts().sign_in.finish(answer, secret, at, replaces=who.session_token())
    except ExplorerError as error:
        return _failed(error)
    response = redirect(back.next_path, 303)
    _set_cookie(response, options, who.session_cookie(), back.session_token, None)
    _delete_cookie(response, options, who.sign_in_cookie())
    return _unkept(response)


@browser.post("/logout")
@public
def sign_out() -> BaseResponse:
    """End the session here and go on to the provider, where it lets people sign out too."""
    options = who.oidc()
    if options is None:
        return redirect("/", 303)
    id_token = accounts().sessions.close(who.session_token() or "")
    url = accounts().provider.sign_out_url(id_token) or "/login?signed_out=1"
    # Not a redirect: our policy lets forms lead to this server only, and browsers hold redirects to it too.
    link = html.escape(url)
    response = Response(
        f'<!doctype html><title>Signed out</title><a href="{link}">Go on</a>', mimetype="text/html"
    )
    response.headers["Refresh"] = f"0; url={url}"
    _delete_cookie(response, options, who.session_cookie())
    return _unkept(response)


@browser.errorhandler(RateLimitedError)
def too_fast(error: RateLimitedError) -> ResponseReturnValue:
    """Tell a person by a page, and a program as everywhere."""
    wanted = request.accept_mimetypes.best_match(["application/problem+json", "text/html"])
    page = current_app.extensions.get(ERROR_PAGE)
    if page is None or wanted != "text/html":
        return explorer_error(error)
    return cast("ResponseReturnValue", page(error))


def safe_path(given: str) -> str:
    """The path if it leads to a page of ours, else the first page: nobody is sent elsewhere from here."""
    parts = urlsplit(given)
    ours = given.startswith("/") and not given.startswith("//") and not parts.netloc and not parts.scheme
    plain = given.isprintable() and "\\" not in given and len(given) <= _MOST_PATH
    return given if ours and plain and not given.startswith(_OWN_PATHS) else "/"


def _failed(error: ExplorerError) -> BaseResponse:
    """Back to the page with the button; what exactly was wrong stays in the log."""
    _log.warning("sign-in failed: %s", error.message)
    with suppress(UnavailableError):  # the log above has it
        container().audit.note("sign_in.refused", outcome=FAILURE, details={"code": error.code})
    query = urlencode({"failed": error.code, "reference": g.get("request_id", "")})
    return _unkept(redirect(f"/login?{query}", 303))


def _set_cookie(
    response: BaseResponse, options: OidcOptions, name: str, value: str, seconds: int | None
) -> None:
    response.set_cookie(
        name, value, max_age=seconds, path="/", secure=options.secure_cookies, httponly=True, samesite="Lax"
    )


def _delete_cookie(response: BaseResponse, options: OidcOptions, name: str) -> None:
    response.delete_cookie(name, path="/", secure=options.secure_cookies, httponly=True, samesite="Lax")


def _unkept(response: BaseResponse) -> BaseResponse:
    response.headers["Cache-Control"] = "no-store"
    return response
