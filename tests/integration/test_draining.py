"""What becomes of a request when its server is told to stop: gunicorn as it is, a small application."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
# Answers /slow only once its server is stopping: it was in flight when that began.
PROGRAM = """
import logging, sys, time
from types import SimpleNamespace
from app.api.context import EXTENSION
from app.api.sse import DRAINING
from app.observability import logging as ours

ours.configure("api", stream=sys.stderr)

class App:
    def __init__(self):
        keyring = SimpleNamespace(announce=lambda: None)
        self.extensions = {EXTENSION: SimpleNamespace(secrets=SimpleNamespace(keyring=keyring))}

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            print("in flight", file=sys.stderr, flush=True)
            until = time.monotonic() + 60
            while not self.extensions[DRAINING]() and time.monotonic() < until:
                time.sleep(0.02)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

app = App()
"""


class Server:
    """A running gunicorn, and what it has written."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.url, self.lines = process, f"http://127.0.0.1:{port}", list[str]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if found := next((line for line in list(self.lines) if words in line), None):
                return found
            time.sleep(0.02)
        raise AssertionError(f"never said {words!r}: {self.lines}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "small.py").write_text(PROGRAM)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "small:app", "--bind", f"127.0.0.1:{port}"),
            *("--worker-class", "gthread", "--threads", "4", "--graceful-timeout", "30"),
            *("--config", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(tmp_path)),
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    made = Server(process, port)
    try:
        yield made
    finally:
        process.kill()
        process.wait(10)
        assert process.stderr
        process.stderr.close()


def test_a_request_in_flight_is_answered_before_the_server_stops_and_no_new_one_is_taken(server: Server):
    started = server.wait_for("API server started")
    assert '"level": "INFO"' in started
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/slow", timeout=60)))
    asking.start()
    server.wait_for("in flight")
    server.process.send_signal(signal.SIGTERM)
    asking.join(60)
    assert [(one.status_code, one.text) for one in answers] == [(200, "done")]
    assert server.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
