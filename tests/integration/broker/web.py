"""A WSGI app that enqueues one job per request, and the gunicorn that serves it in tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dramatiq.errors import BrokerConnectionError

from brokers import JetStreamBroker
from tests.integration.broker.server import free_port
from tests.integration.broker.workers import QUEUES, make_options, message, wait_until

_ROOT = Path(__file__).parents[3]
_ANSWER_SECONDS = 20.0


def _setting(name: str) -> str:
    return os.environ.get(name, "")  # noqa: TID251 (set by Gunicorn below)


def make_app() -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """GET /<name> enqueues work(name) and answers with the process id; 503 while that is impossible."""
    broker = JetStreamBroker(make_options(_setting("TEST_NATS_URL"), connect_timeout_seconds=3.0), QUEUES)
    if _setting("TEST_ENQUEUE_AT_LOAD"):  # with --preload: a loop and a connection exist before the fork
        broker.enqueue(message("work", "load"))

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        name = environ["PATH_INFO"].strip("/")
        status, answer = "200 OK", str(os.getpid())
        try:
            if name:
                broker.enqueue(message("work", name))
        except BrokerConnectionError as error:
            status, answer = "503 Service Unavailable", str(error)
        body = answer.encode()
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


class Gunicorn:
    """Two workers of one class; `ask(name)` is one request: (status, text)."""

    def __init__(self, nats_url: str, folder: Path, worker_class: str, *, preload: bool = False) -> None:
        self._port = free_port()
        command = [
            str(Path(sys.executable).with_name("gunicorn")),
            "tests.integration.broker.web:make_app()",
            *("--bind", f"127.0.0.1:{self._port}", "--workers", "2", "--worker-class", worker_class),
            *("--pythonpath", str(_ROOT), "--no-control-socket", "--graceful-timeout", "5"),
        ]
        command += ["--threads", "4"] if worker_class == "gthread" else []
        command += ["--preload"] if preload else []
        environment = {**os.environ, "TEST_NATS_URL": nats_url}  # noqa: TID251
        environment |= {"TEST_ENQUEUE_AT_LOAD": "yes"} if preload else {}
        self._log = folder / "gunicorn.log"
        with self._log.open(
            "wb"
        ) as log:  # in a folder of its own: the product's gunicorn.conf.py is not meant
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._is_up, what="gunicorn answers")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return self.ask("")[0] == 200
        except OSError:
            return False

    def ask(self, name: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self._port}/{name}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self) -> None:
        """At once: a polite end takes it a second or two, and nothing is tested after it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
