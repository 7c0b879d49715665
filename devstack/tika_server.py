"""A development Tika server: native Tika behind the REST calls that the `tika` client makes for us.

For one laptop and for tests. Production runs Apache Tika server, spoken to by the same client code. Unlike
there, the text of attachments is part of the one document that /rmeta lists, and what cannot be read is
always 422. Run with `python -m devstack.tika_server --port N`.
"""

from __future__ import annotations

import argparse
import contextlib
import email.message
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from devstack.ports import HOST
from devstack.tika.pool import DocumentError, Limits, ParserLostError, ParserPool

_WHAT_IT_IS = "Apache Tika 3.3.2 (native, development server, not for production)"
_TIMEOUT_HEADER = "X-Tika-Timeout-Millis"  # Tika server's own name for it
_SAFE_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,12}")
_ENCRYPTED = re.compile(r"encrypt|password", re.IGNORECASE)

log = logging.getLogger("devstack.tika_server")

Metadata = Mapping[str, list[str]]


def create_app(limits: Limits) -> Starlette:
    """Return the application; its parser processes live as long as it does."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.pool = ParserPool(limits)
        await app.state.pool.start()
        log.info("%s; %d parsers", _WHAT_IT_IS, limits.children)
        yield
        await app.state.pool.stop()

    return Starlette(
        routes=[
            Route("/", _greet, methods=["GET"]),
            Route("/version", _greet, methods=["GET"]),
            Route("/tika", _greet, methods=["GET"]),
            Route("/tika", _tika, methods=["PUT"]),
            Route("/meta", _meta, methods=["PUT"]),
            Route("/rmeta", _rmeta, methods=["PUT"]),
            Route("/rmeta/{output}", _rmeta, methods=["PUT"]),
            Route("/detect/stream", _detect, methods=["PUT"]),
        ],
        exception_handlers={DocumentError: _unreadable, ParserLostError: _lost},
        lifespan=lifespan,
    )


async def _greet(_: Request) -> Response:
    return PlainTextResponse(_WHAT_IT_IS)


async def _tika(request: Request) -> Response:
    """The text; XHTML where the client accepts only that."""
    accepted = request.headers.get("accept", "text/plain")
    wants_xml = "html" in accepted or "xml" in accepted
    answer = await _parse(request, "xml" if wants_xml else "text")
    kind = "text/xml" if wants_xml else "text/plain"
    return Response(answer["content"], media_type=kind)


async def _meta(request: Request) -> Response:
    answer = await _parse(request, "meta")
    return JSONResponse(_flat(answer["metadata"]))


async def _rmeta(request: Request) -> Response:
    """A list with one entry: metadata, and the content under X-TIKA:content."""
    wanted = request.path_params.get("output", "xml")
    output = {"text": "text", "body": "text", "xml": "xml", "html": "xml", "ignore": "meta"}.get(wanted)
    if output is None:
        return PlainTextResponse(f"/rmeta/{wanted} is not one of text, xml, html, ignore", status_code=404)
    answer = await _parse(request, output)
    entry = _flat(answer["metadata"])
    if output != "meta":
        entry["X-TIKA:content"] = answer["content"]
    return JSONResponse([entry])


async def _detect(request: Request) -> Response:
    answer = await _parse(request, "meta")
    content_type = answer["metadata"].get("Content-Type", ["application/octet-stream"])[0]
    return PlainTextResponse(content_type.partition(";")[0])


async def _parse(request: Request, output: str) -> dict[str, Any]:
    pool: ParserPool = request.app.state.pool
    name = _file_name(request.headers.get("content-disposition", ""))
    # A file and not a pipe: hostile documents can be large, and the parser wants the name's ending.
    with tempfile.TemporaryDirectory(prefix="tika-") as folder:
        path = Path(folder) / f"document{_suffix(name)}"
        with path.open("wb") as file:
            async for piece in request.stream():
                file.write(piece)
        if path.stat().st_size == 0:
            raise DocumentError("ZeroByteFileException: the document is empty (0 bytes)")
        answer = await pool.parse(str(path), name, output, time_seconds=_time_limit(request))
    _refuse_encrypted(answer["metadata"])
    return answer


def _file_name(disposition: str) -> str:
    header = email.message.Message()
    header["Content-Disposition"] = disposition
    return PurePosixPath(header.get_filename() or "document").name


def _suffix(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return suffix if _SAFE_SUFFIX.fullmatch(suffix) else ""


def _time_limit(request: Request) -> float | None:
    value = request.headers.get(_TIMEOUT_HEADER, "")
    return int(value) / 1000 if value.isdigit() else None


def _refuse_encrypted(metadata: Metadata) -> None:
    """Raise DocumentError where the parser only noted that a password is missing."""
    for note in metadata.get("X-TIKA:warning", []):
        if "EncryptedDocumentException" in note:
            raise DocumentError(note)


def _flat(metadata: Metadata) -> dict[str, Any]:
    """Return single values bare and several as a list, as Tika server does."""
    return {key: values[0] if len(values) == 1 else values for key, values in metadata.items()}


async def _unreadable(_: Request, error: Exception) -> Response:
    message = str(error)
    if _ENCRYPTED.search(message) and "EncryptedDocumentException" not in message:
        message = f"EncryptedDocumentException: {message}"
    return PlainTextResponse(message, status_code=422)


async def _lost(_: Request, error: Exception) -> Response:
    log.warning("%s", error)
    return PlainTextResponse(str(error), status_code=503)


def main() -> None:
    """Serve until SIGTERM."""
    default = Limits()
    parser = argparse.ArgumentParser(prog="python -m devstack.tika_server", description=__doc__)
    parser.add_argument("--port", type=int, default=9998)
    parser.add_argument("--children", type=int, default=default.children, help="documents parsed at once")
    parser.add_argument("--time-limit-seconds", type=float, default=default.time_seconds)
    parser.add_argument(
        "--memory-limit-mib", type=int, default=default.memory_bytes >> 20, help="per document"
    )
    words = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    limits = Limits(words.children, words.time_limit_seconds, words.memory_limit_mib << 20)
    uvicorn.run(create_app(limits), host=HOST, port=words.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
