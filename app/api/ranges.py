"""A part of a download: the header Range asks, 206 answers."""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable


def asked_part(size_bytes: int, etag: str) -> range | None:
    """The bytes that are asked for; None for all of them.

    All is also the answer to several parts at once, to units that we do not know, and to `If-Range` with
    another version. Raises RequestedRangeNotSatisfiable (416) for what lies behind the end.
    """
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    if "If-Range" in request.headers and request.if_range.etag != etag:
        return None
    found = asked.range_for_length(size_bytes)
    if found is None:
        message = f"the file has {size_bytes} bytes; nothing of {asked.to_header()} is among them"
        raise RequestedRangeNotSatisfiable(size_bytes, description=message)
    return range(*found)


def as_part(response: Response, part: range | None, size_bytes: int) -> Response:
    """The response, saying which bytes of how many it holds."""
    response.headers["Accept-Ranges"] = "bytes"
    if part is not None:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size_bytes}"
    return response
