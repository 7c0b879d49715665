"""ETag on what is read, If-None-Match, and If-Match before a change."""

from __future__ import annotations

import hashlib
from datetime import datetime

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from app.errors import InvalidInputError, PreconditionFailedError
from app.storage.postgres.queries.owned import expect_unchanged, forget_expected

_OK = 200
_CONDITIONS = frozenset({"HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_MATCH", "HTTP_RANGE"})
_CHANGES = frozenset({"PATCH", "DELETE"})


def register(app: Flask) -> None:
    """Stand after the guard, which knows who asks."""
    app.before_request(_check_if_match)
    app.after_request(_add_etag)
    app.teardown_request(_forget)


def _add_etag(response: Response) -> Response:
    reads = request.method in {"GET", "HEAD"} and request.path.startswith("/api/")
    if not (reads and response.status_code == _OK and response.is_json) or response.is_streamed:
        return response
    if not any(name == "ETag" for name, _ in response.headers):  # asking by name costs an exception
        response.set_etag(_etag(response.get_data()))
    if not _CONDITIONS.isdisjoint(request.environ):
        response.make_conditional(request)
    return response


def _check_if_match() -> None:
    """Compare with what reading answers now; whoever comes in between is seen under the row's lock.

    Raises PreconditionFailedError, and what reading raises.
    """
    if request.method not in _CHANGES or not request.if_match or not request.path.startswith("/api/"):
        return
    present = _read()
    body = present.get_json(silent=True) if present.is_json else None
    etag = present.get_etag()[0] or (body and _etag(present.get_data()))
    present.close()
    if not etag:
        raise _not_readable()
    if not request.if_match.contains(etag):
        raise PreconditionFailedError("this has changed since you read it: read it again", field="If-Match")
    if changed_at := (body or {}).get("updated_at"):
        g.expected_row = expect_unchanged(datetime.fromisoformat(changed_at))


def _read() -> Response:
    """What GET answers at this address."""
    try:
        endpoint, arguments = current_app.create_url_adapter(request).match(method="GET")  # type: ignore[union-attr]
    except (HTTPException, RequestRedirect):
        raise _not_readable() from None
    answer: Response = current_app.view_functions[endpoint](**arguments)  # type: ignore[assignment]
    return answer


def _not_readable() -> InvalidInputError:
    return InvalidInputError(f"{request.path} cannot be read, so it takes no If-Match", field="If-Match")


def _forget(_error: BaseException | None) -> None:
    if "expected_row" in g:
        forget_expected(g.pop("expected_row"))


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
