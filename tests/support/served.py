"""The application with sign-in, served to real browsers from a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask
from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from app.jobs.outbox import Outbox
from tests.support.domain import Recorder
from tests.support.identity import IdentityProvider


@dataclass(frozen=True)
class SignedIn:
    """Where the application listens, and what it is made of."""

    url: str
    container: Container


@contextmanager
def serving(
    environment: dict[str, str], provider: IdentityProvider, recorder: Recorder
) -> Iterator[SignedIn]:
    """Listen where the provider sends people back to."""
    url = provider.app_url
    container = build(Settings.from_env(environment | provider.environment(PUBLIC_URL=url)))
    vars(container)["outbox"] = Outbox(recorder)
    served = _ends_bodies(create_app(container))
    server = make_server("127.0.0.1", provider.app_port, served, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield SignedIn(url, container)
    server.shutdown()
    server.server_close()
    thread.join(5)
    container.close()


def _ends_bodies(app: Flask) -> Callable[..., Any]:
    """Let reading beyond a body find nothing and not wait, as with gunicorn, which this server is not."""

    def call(environ: dict[str, Any], start_response: Any) -> Any:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], length)
        return app(environ, start_response)

    return call
