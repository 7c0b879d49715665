"""The header Idempotency-Key: a POST that comes twice acts once, and both get the same answer."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from flask import Flask, Response, current_app, g, request

from app.api.context import me, services
from app.errors import ExplorerError, InvalidInputError
from app.security.marks import takes_idempotency_key
from app.services.idempotency import Answer, Claim, Idempotency

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_BLOCK_BYTES = 64 * 1024
_EVENTS = "text/event-stream"
_EVENT, _LAST_EVENT = "event: ", "event: complete\n"
_log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Stand after the guard, which knows who asks and has checked the body."""
    app.before_request(_begin)
    app.after_request(_end)


def takes_key(method: str, function: Any) -> bool:
    """Whether a route may be sent with a key: those that only read need none."""
    return method == "POST" and takes_idempotency_key(function)


def _begin() -> Response | None:
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    function = current_app.view_functions.get(request.endpoint or "")
    if key is None or function is None or request.method != "POST" or not request.path.startswith("/api/"):
        return None
    if not takes_key(request.method, function):
        raise InvalidInputError(f"{request.path} takes no {HEADER}", field=HEADER)
    if not _KEY.fullmatch(key):
        raise InvalidInputError(f"{HEADER} must have 1 to 255 printable ASCII characters", field=HEADER)
    route = f"{request.method} {request.path}"
    found = services().idempotency.begin(me(), route=route, key=key, fingerprint=_fingerprint())
    if isinstance(found, Claim):
        g.idempotency_claim = found
        return None
    return _replayed(found)


def _end(response: Response) -> Response:
    claim: Claim | None = g.pop("idempotency_claim", None)
    if claim is None:
        return response
    if response.mimetype == _EVENTS:
        return _keeping_last(claim, response)
    succeeded = response.is_json and response.status_code < 300  # noqa: PLR2004 - a success
    answer = Answer(response.status_code, response.get_data()) if succeeded else None
    _keep(services().idempotency, claim, answer)
    return response


def _keep(keeper: Idempotency, claim: Claim, answer: Answer | None) -> None:
    """Keep the answer; without one the request did nothing, and may be sent again."""
    try:
        if answer is None:
            keeper.release(claim)
        else:
            keeper.complete(claim, answer)
    except ExplorerError as error:
        # What was done is done: the client hears so, and a repetition hears 409 until the claim ends.
        _log.warning("the answer to %s is not kept: %s", claim.route, error.message)


def _replayed(answer: Answer) -> Response:
    """What was answered; of a stream its last event, which has all that came before."""
    mimetype = _EVENTS if answer.body.startswith(_EVENT.encode()) else "application/json"
    response = Response(answer.body, answer.status, mimetype=mimetype)
    response.headers[REPLAYED] = "true"
    return response


def _keeping_last(claim: Claim, response: Response) -> Response:
    """Keep the last event of a stream that comes to its end; one that does not may be asked for again."""
    # Asked when the request is over, and with it what services() finds them by.
    whole, keeper = False, services().idempotency
    source: Any = response.response

    def forget() -> None:
        if not whole:
            _keep(keeper, claim, None)

    def lines() -> Iterator[str]:
        nonlocal whole
        with closing(source):
            for line in source:
                if line.startswith(_LAST_EVENT):
                    whole = True
                    _keep(keeper, claim, Answer(response.status_code, line.encode()))
                yield line
        forget()

    response.response = lines()
    response.call_on_close(forget)  # also where nobody read on
    return response


def _fingerprint() -> str:
    digest = hashlib.sha256(request.query_string)
    for part in _parts():
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _parts() -> Iterator[bytes]:
    """The body in a spelling that its repetitions share: boundaries of forms are drawn by lot."""
    if request.mimetype != "multipart/form-data":
        yield json.dumps(request.get_json(silent=True), sort_keys=True).encode()
        return
    for name, value in request.form.items(multi=True):
        yield f"{name}={value}".encode()
    for name, file in request.files.items(multi=True):
        yield f"{name}={file.filename}".encode()
        yield _digest(file.stream)


def _digest(stream: Any) -> bytes:
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK_BYTES):
        digest.update(block)
    stream.seek(0)
    return digest.digest()
