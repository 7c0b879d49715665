"""Error pages in the frame of all pages, for addresses that are not the API's."""

from __future__ import annotations

import logging
import math

from flask import Flask, Response, g, make_response, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from app.errors import ExplorerError, RateLimitedError, UnauthenticatedError
from app.web import frame, login

_log = logging.getLogger(__name__)

_TITLES = {
    400: "That did not make sense here",
    403: "Not allowed",
    404: "Nothing here",
    405: "That cannot be done here",
    409: "That does not fit the present state",
    413: "Too large",
    415: "This type of file cannot be read",
    429: "Too fast",
    503: "A part of the system is away",
}


def add(app: Flask) -> None:
    """Answer unknown addresses; errors of the pages themselves are handled by `answer`."""
    if NotFound not in app.error_handler_spec[None].get(404, {}):
        app.register_error_handler(404, _unknown_address)


def answer(error: Exception) -> ResponseReturnValue:
    """The page (or, for htmx, the note) that says what failed and what to do."""
    if isinstance(error, UnauthenticatedError):
        return login.instead()
    if isinstance(error, ExplorerError):
        return _retried(error, make_response(_page(error.http_status, error.message)))
    if isinstance(error, HTTPException) and error.code and error.code < InternalServerError.code:
        return _page(error.code, error.description or "")
    reference = g.get("request_id")
    _log.error("page %s failed", request.path, exc_info=error)
    return _page(500, "The fault is ours. Try again; if it stays, report the reference.", reference)


def _retried(error: ExplorerError, response: Response) -> Response:
    if isinstance(error, RateLimitedError):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_seconds or 1))
    return response


def _unknown_address(_error: HTTPException) -> ResponseReturnValue:
    if request.path.startswith(("/api/", "/health", "/metrics")):
        return {"error": "not_found", "message": f"no resource {request.path}", "status": 404}, 404
    return _page(404, "No page has this address. It may have been deleted.")


def _page(status: int, message: str, reference: str | None = None) -> ResponseReturnValue:
    template = "parts/error.html" if frame.is_fragment() else "error.html"
    title = _TITLES.get(status, "Something went wrong")
    html = render_template(template, status=status, title=title, message=message, reference=reference)
    return frame.protect(make_response(html, status))
