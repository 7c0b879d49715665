"""The one place where an error becomes an answer: `application/problem+json`, one shape for all."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, cast

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, NotFound

from app.errors import ExplorerError, InvalidInputError, TransientError
from app.observability.security_metrics import auth_failed

_log = logging.getLogger(__name__)

# What the framework refuses itself, in the codes that our own errors have.
_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid_input",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported_type",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
}
_RETRY_AFTER_SECONDS = 5
_SHOWN_PATH = 200
_PREFIXES = ("/api/", "/health", "/metrics")


def register(app: Flask) -> None:
    """Answer every error below the API's paths; the pages' own handlers answer theirs."""
    app.register_error_handler(ExplorerError, explorer_error)
    app.register_error_handler(HTTPException, http_error)
    _share_unknown_addresses(app)
    app.register_error_handler(Exception, unexpected_error)


def _share_unknown_addresses(app: Flask) -> None:
    """An unknown address belongs to no blueprint: below the API's paths we answer, else the pages do."""
    page = app.error_handler_spec[None].get(HTTPStatus.NOT_FOUND, {}).get(NotFound)

    def unknown_address(error: NotFound) -> ResponseReturnValue:
        if page is None or concerns_api():
            return http_error(error)
        return cast("ResponseReturnValue", page(error))

    app.register_error_handler(NotFound, unknown_address)


def concerns_api() -> bool:
    """Whether the request is a program's and not a page's."""
    return request.path.startswith(_PREFIXES)


def explorer_error(error: ExplorerError) -> Response:
    """One of our own errors."""
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warning("%s %s: %s", request.method, request.path, error.message)
    response = problem(error.http_status, error.code, error.message, field=error.field)
    if isinstance(error, TransientError):
        seconds = error.retry_after_seconds or _RETRY_AFTER_SECONDS
        response.headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if error.http_status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        auth_failed(error.code)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def http_error(error: HTTPException) -> ResponseReturnValue:
    """What the framework refuses: unknown path, wrong method, too large."""
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    if not concerns_api() or error.code is None:
        return error.get_response()
    status = HTTPStatus(error.code)
    message = _WORDS[status](error) if status in _WORDS else error.description or ""
    code = _CODES.get(status, status.phrase.lower().replace(" ", "_"))
    response = problem(status, code, message)
    for name, value in error.get_headers(request.environ):
        if name.lower() in {"allow", "content-range"}:
            response.headers[name] = value
    return response


def unexpected_error(error: Exception) -> Response:
    """A fault of ours: the log has the trace, the client the number to ask for."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        f"the fault is ours; the log of the server has more under request {g.get('request_id')}",
    )


def validation_error(error: ValidationError) -> Response:
    """What a schema refuses, in one sentence per field."""
    found = [(".".join(map(str, item["loc"])), _rule(item)) for item in error.errors()]
    message = "; ".join(f"{field}: {rule}" if field else rule for field, rule in found[:10])
    return problem(HTTPStatus.BAD_REQUEST, InvalidInputError.code, message, field=found[0][0] or None)


def problem(status: int, code: str, message: str, *, field: str | None = None) -> Response:
    """An error answer."""
    phrase = HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": "about:blank",  # `code` says more, for programs
        "title": phrase,
        "status": int(status),
        "detail": message,
        "error": phrase,
        "message": message,
        "code": code,
        "request_id": g.get("request_id"),
    }
    if field:
        body["field"] = field
    return Response(json.dumps(body), int(status), mimetype="application/problem+json")


def _rule(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "there is no such field"
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "model_type":
        return "must be a JSON object" if item["loc"] else "the body must be a JSON object"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return f"{message} (given: {shape(item['input'])})"


def shape(value: Any) -> str:
    """What kind of value it is and how long, and never the value itself: it may be a secret."""
    if value is None:
        return "null"
    kind = next((words for kind, words in _KINDS if isinstance(value, kind)), "an object")
    return f"{kind} of length {len(value)}" if isinstance(value, str | list) else kind


def _too_large(_error: HTTPException) -> str:
    most = request.max_content_length
    limit = f"; the limit is {most} bytes" if most else ""
    return f"the request is too large{limit}"


def _unknown_address(_error: HTTPException) -> str:
    return f"there is nothing at {request.path[:_SHOWN_PATH]}"


def _wrong_method(error: HTTPException) -> str:
    possible = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    return f"{request.method} is not possible at {request.path[:_SHOWN_PATH]}; use {possible}"


# bool before int, which it is one of.
_KINDS = ((bool, "true or false"), (int, "an integer"), (float, "a number"), (str, "text"), (list, "a list"))
_WORDS: Mapping[HTTPStatus, Callable[[HTTPException], str]] = {
    HTTPStatus.NOT_FOUND: _unknown_address,
    HTTPStatus.METHOD_NOT_ALLOWED: _wrong_method,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _too_large,
}
