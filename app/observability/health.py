"""Whether this process lives and can work: checks in parallel within a time limit, a server for workers."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from app.observability import metrics, server_metrics
from app.observability.redaction import redact

_LOG = logging.getLogger(__name__)
_MESSAGE_CHARACTERS = 300

Check = Callable[[], object]  # raises when its server does not answer


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one server answered."""

    status: Literal["up", "down"]
    latency_ms: float
    error: str | None = None


class _Call:
    """A check under way. Whoever asks meanwhile waits for the same answer."""

    def __init__(self, check: Check, timeout_seconds: float) -> None:
        self._check, self._timeout_seconds = check, timeout_seconds
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._result: CheckResult | None = None
        self._lock = threading.Lock()
        self._late: tuple[int, CheckResult] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has answered."""
        return self._ended.is_set()

    def start(self, name: str) -> None:
        """In a thread of its own: it may hang for ever."""
        threading.Thread(target=self._run, name=f"check-{name}", daemon=True).start()

    def answer(self) -> CheckResult:
        """What it says, at the latest when its time is over. The same object to all who ask at once."""
        self._ended.wait(max(0.0, self._began + self._timeout_seconds - time.monotonic()))
        return self._result or self._no_answer()

    def _no_answer(self) -> CheckResult:
        """Another one for each time limit that passes: who asks again later is told again."""
        times = round((time.monotonic() - self._began) / self._timeout_seconds)
        with self._lock:
            if self._late is None or self._late[0] != times:
                error = f"no answer within {self._timeout_seconds:g} seconds"
                self._late = times, CheckResult("down", self._timeout_seconds * 1000, error)
            return self._late[1]

    def _run(self) -> None:
        try:
            self._check()
            error = None
        except Exception as failure:  # noqa: BLE001 - whatever it is, the server is not usable
            error = redact(f"{type(failure).__name__}: {failure}")[:_MESSAGE_CHARACTERS]
        latency_ms = round((time.monotonic() - self._began) * 1000, 1)
        self._result = CheckResult("down" if error else "up", latency_ms, error)
        self._ended.set()


class HealthChecks:
    """Runs named checks side by side, each once at a time, however many ask.

    One that hangs is reported down and not started again until it ends.
    """

    def __init__(self, checks: Mapping[str, Check], timeout_seconds: float = 2.0) -> None:
        self._checks = dict(checks)
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._calls: dict[str, _Call] = {}

    def run(self) -> dict[str, CheckResult]:
        """The result of every check, after at most `timeout_seconds`."""
        calls = {name: self._call(name) for name in self._checks}
        return {name: call.answer() for name, call in calls.items()}

    def _call(self, name: str) -> _Call:
        with self._lock:
            call = self._calls.get(name)
            if call is None or call.is_over:
                call = self._calls[name] = _Call(self._checks[name], self._timeout_seconds)
                call.start(name)
            return call


class Steady:
    """A judgement that one bad answer does not change: down after two in a row, up again after two good ones.

    The first answer decides at once. One that several ask for at a time is one answer.
    """

    def __init__(self, answers_in_a_row: int = 2) -> None:
        self._needed = answers_in_a_row
        self._lock = threading.Lock()
        self._judged: dict[str, bool] = {}
        self._against: dict[str, int] = {}
        self._last: dict[str, CheckResult] = {}

    def judge(self, results: Mapping[str, CheckResult]) -> frozenset[str]:
        """The parts that are down, these results considered."""
        with self._lock:
            for name, result in results.items():
                if self._last.get(name) is not result:
                    self._consider(name, is_up=result.status == "up")
                self._last[name] = result
                server_metrics.set_part(name, is_up=self._judged[name])
            return frozenset(name for name in results if not self._judged[name])

    def _consider(self, name: str, *, is_up: bool) -> None:
        against = 0 if self._judged.setdefault(name, is_up) == is_up else self._against.get(name, 0) + 1
        if against >= self._needed:
            self._judged[name], against = is_up, 0
        self._against[name] = against


class HealthServer:
    """/health (alive), /ready (warm, and every server answers) and /metrics of a worker process."""

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        ready: Callable[[], bool],
        checks: Mapping[str, Check],
        timeout_seconds: float = 2.0,
        before_scrape: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_scrape = before_scrape
        self._address = (host, port or 0)
        self._ready = ready
        self._checks = HealthChecks(checks, timeout_seconds)
        self._steady = Steady()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> bool:
        """Listen from now on; False when the port is 0 or None, or another process of this pool has it."""
        if not self._address[1]:
            return False
        try:
            self._server = ThreadingHTTPServer(self._address, _handler(self))
        except OSError as error:
            _LOG.warning("no health server on %s:%d: %s", *self._address, error)
            return False
        self._server.daemon_threads = True
        serve = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="health-server",
            daemon=True,
        )
        serve.start()
        _LOG.info("health checks are answered on port %d", self._address[1])
        return True

    def stop(self) -> None:
        """Stop listening."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/metrics":
            self._before_scrape()
            body, content_type = metrics.render()
            return 200, content_type, body
        if path in ("/health", "/health/live"):
            return 200, "application/json", b'{"status": "alive"}'
        if path in ("/ready", "/health/ready"):
            return self._readiness()
        return 404, "application/json", b'{"error": "try /health, /ready or /metrics"}'

    def _readiness(self) -> tuple[int, str, bytes]:
        warm = self._ready()
        results = self._checks.run() if warm else {}
        down = self._steady.judge(results)
        good = warm and not down
        body = {
            "status": "ready" if good else "not ready",
            "warm": warm,
            "down": sorted(down),
            "checks": {name: asdict(result) for name, result in results.items()},
        }
        return 200 if good else 503, "application/json", json.dumps(body).encode()


def _handler(owner: HealthServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # seconds a client may take for its request

        def do_GET(self) -> None:
            status, content_type, body = owner.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler
