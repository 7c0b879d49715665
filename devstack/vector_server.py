"""A development vector server: Qdrant's Edge engine behind the REST calls that qdrant-client makes for us.

For one laptop and for tests. Production runs Qdrant itself, spoken to by the same client code. Run with
`python -m devstack.vector_server --data DIR --port N`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, DispatchFunction, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from devstack.ports import HOST
from devstack.vectors.errors import UnsupportedError
from devstack.vectors.routes import routes
from devstack.vectors.store import Store

_FLUSH_EVERY_SECONDS = 5.0
_OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/livez"})
_WHAT_IT_IS = "development vector server (Qdrant Edge engine), not for production"

log = logging.getLogger("devstack.vector_server")


def create_app(data: Path, *, api_key: str | None = None) -> Starlette:
    """Return the application over the collections in `data`; with `api_key` every call must carry it."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.store = Store(data)
        log.info("%s; %d collections in %s", _WHAT_IT_IS, len(app.state.store.names()), data)
        flusher = asyncio.create_task(_flush_regularly(app.state.store))
        yield
        flusher.cancel()
        app.state.store.close()

    health = [Route(path, _healthy) for path in ("/healthz", "/readyz", "/livez")]
    return Starlette(
        routes=[Route("/", _root), *health, *routes()],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard(api_key))] if api_key else [],
        exception_handlers={HTTPException: _not_spoken_here},
        lifespan=lifespan,
    )


async def _flush_regularly(store: Store) -> None:
    while True:
        await asyncio.sleep(_FLUSH_EVERY_SECONDS)
        for collection in store.opened():
            collection.flush()
            await asyncio.sleep(0)  # let requests through between two collections


async def _root(_: Request) -> Response:
    """Qdrant's clients compare this version with their own."""
    return JSONResponse(
        {"title": f"qdrant - {_WHAT_IT_IS}", "version": version("qdrant-client"), "development": True}
    )


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("healthz check passed")


def _guard(api_key: str) -> DispatchFunction:
    async def check(request: Request, call_next: RequestResponseEndpoint) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        given = request.headers.get("api-key", bearer)
        if request.url.path in _OPEN_PATHS or hmac.compare_digest(given.encode(), api_key.encode()):
            return await call_next(request)
        return PlainTextResponse("Must provide an API key or an Authorization bearer token", status_code=401)

    return check


async def _not_spoken_here(request: Request, error: Exception) -> Response:
    """Answer a path or verb of Qdrant's that is not in the table."""
    what = UnsupportedError(f"{request.method} {request.url.path}")
    if isinstance(error, HTTPException) and error.status_code not in {404, 405}:
        return JSONResponse({"status": {"error": error.detail}}, status_code=error.status_code)
    return JSONResponse({"status": {"error": str(what)}}, status_code=what.http_status)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m devstack.vector_server", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the collections")
    parser.add_argument("--port", type=int, default=6333)
    words = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    api_key = os.environ.get("QDRANT__SERVICE__API_KEY")  # noqa: TID251 - Qdrant's own name for it
    app = create_app(words.data, api_key=api_key)
    uvicorn.run(app, host=HOST, port=words.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
