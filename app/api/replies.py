"""Kinds of answers: a schema as JSON, nothing, a download, a stream of bytes."""

from __future__ import annotations

import re
import unicodedata
from typing import BinaryIO
from urllib.parse import quote

from flask import Response
from pydantic import BaseModel
from werkzeug.wsgi import FileWrapper

_BLOCK_BYTES = 64 * 1024


def reply(body: BaseModel, status: int = 200) -> Response:
    """The schema as JSON."""
    return Response(body.model_dump_json(), status, mimetype="application/json")


def nothing() -> Response:
    """204."""
    return Response(status=204)


def stream(
    source: BinaryIO,
    *,
    media_type: str,
    size_bytes: int,
    filename: str | None = None,
    etag: str | None = None,
) -> Response:
    """Bytes as they are read; the source is closed with the response."""
    response = Response(FileWrapper(source, _BLOCK_BYTES), mimetype=media_type, direct_passthrough=True)
    response.call_on_close(source.close)
    response.content_length = size_bytes
    if filename is not None:
        response.headers["Content-Disposition"] = attachment(filename)
    if etag is not None:
        response.set_etag(etag)
    return response


def attachment(name: str) -> str:
    """Content-Disposition by RFC 6266: an ASCII name for all, the true one for those who know RFC 8187."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r'[^\x20-\x7e]|["\\%]', "_", plain).strip() or "file"
    exact = quote(name, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"
