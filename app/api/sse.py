"""Server-sent events: what happens to an owner's transforms, as it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any

from flask import Response, current_app, request

from app.api import who
from app.api.context import container, me
from app.errors import InvalidInputError
from app.events.types import Connected, Reset, StatusEvent, Told
from app.observability.metrics import sse_connection

DRAINING = "is_draining"

_HEARTBEAT_SECONDS = 15
_LOOK_UP_SECONDS = 1.0
_RECONNECT_MS = 2000
_ASK_AGAIN_SECONDS = 15.0


def follow(matches: Callable[[StatusEvent], bool]) -> Response:
    """Stream the owner's events that match, from `Last-Event-ID` on where the client names one."""
    after = _last_event_id()
    return stream(matches, lambda told: _lines(told, after), after_sequence=after)


def stream(
    matches: Callable[[StatusEvent], bool],
    lines: Callable[[Iterator[Told | None]], Iterator[str]],
    *,
    after_sequence: int | None = None,
) -> Response:
    """Stream what `lines` makes of the owner's events that match, and of the None that comes every second.

    It ends when the server stops, and when whoever asked is signed out.
    """
    draining = current_app.extensions.get(DRAINING, lambda: False)
    told = container().feed.listen(
        me().owner_id, matches, after_sequence=after_sequence, heartbeat_seconds=_LOOK_UP_SECONDS
    )
    return respond(_while_allowed(_until_drained(told, lines, draining), who.still_stands()))


def respond(lines: Iterator[str]) -> Response:
    """The lines as they come; they are closed when nobody reads any more."""
    response = Response(_counted(lines), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _counted(lines: Iterator[str]) -> Iterator[str]:
    with sse_connection():
        yield from lines


def _last_event_id() -> int | None:
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 18:  # noqa: PLR2004 - fits 64 bits
        raise InvalidInputError("Last-Event-ID must be a number that this stream has sent")
    return int(given)


def _until_drained(
    told: Iterator[Told | None],
    lines: Callable[[Iterator[Told | None]], Iterator[str]],
    draining: Callable[[], bool],
) -> Iterator[str]:
    """It looks up every second, so that a stopping server need not wait for readers."""
    yield from lines(takewhile(lambda _: not draining(), told))
    if draining():
        yield event("closed", {"reason": "the server is stopping"})


def _lines(told: Iterator[Told | None], after_sequence: int | None) -> Iterator[str]:
    spoke = time.monotonic()
    for one in told:
        if one is None and time.monotonic() - spoke < _HEARTBEAT_SECONDS:
            continue
        spoke = time.monotonic()
        yield ": still here\n\n" if one is None else _line(one, after_sequence)


def _line(told: Told, after_sequence: int | None) -> str:
    if isinstance(told, Connected):
        data = {"resumed_after": after_sequence}
        return f"retry: {_RECONNECT_MS}\n\n" + event("connected", data, identity=told.sequence)
    if isinstance(told, Reset):
        return event("reset", {"reason": told.reason}, identity=told.sequence)
    return event("status", _payload(told), identity=told.sequence)


def _while_allowed(lines: Iterator[str], stands: Callable[[], bool]) -> Iterator[str]:
    """The stream as long as the session or token that opened it stands; somebody may have revoked it."""
    asked = time.monotonic()
    for line in lines:
        if time.monotonic() - asked >= _ASK_AGAIN_SECONDS:
            if not stands():
                yield event("closed", {"reason": "signed out"})
                return
            asked = time.monotonic()
        yield line


def _payload(told: StatusEvent) -> dict[str, Any]:
    fields = json.loads(told.encode())
    del fields["owner_id"]
    return {key: value for key, value in fields.items() if value is not None}


def event(name: str, data: dict[str, Any], *, identity: int | None = None) -> str:
    """One event on the wire; `data` as JSON."""
    head = f"id: {identity}\n" if identity is not None else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
