"""A web server is replaced under load, with the chart's command line: nobody notices.

As in the cluster: the new one is ready, new connections go to it, then the old one gets SIGTERM.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg2
import pytest

from devstack.product import ROOT
from tests.chart.rendering import rendered
from tests.support.app_processes import RunningApp, free_port
from tests.support.balancer import Balancer

CLIENTS, STREAMS = 6, 3


class Web:
    """A web server as the chart starts it, on the servers of the running product."""

    def __init__(self, app: RunningApp, folder: Path) -> None:
        self.port = free_port()
        chart = rendered("quickstart")
        words = chart.container("api")["command"]
        given = chart.env("api") | {"HOSTNAME": "127.0.0.1", "PORT": str(self.port)}
        argv = [re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], word) for word in words]
        env = app.product.environment | {"HOSTNAME": "127.0.0.1", "PORT": str(self.port)}
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = ""  # whoever takes the spans is this process, and busy
        self.log = folder / f"web-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *argv], cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT
            )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=30).is_success
        except httpx.TransportError:
            return False

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def webs(running_app: RunningApp, tmp_path: Path) -> Iterator[tuple[Web, Web]]:
    pair = (Web(running_app, tmp_path), Web(running_app, tmp_path))
    try:
        for web in pair:
            running_app.wait_for("a web server", web.is_ready)
        yield pair
    finally:
        for web in pair:
            web.end()


class Load:
    """Clients that ask again and again; `failed` says what they did not get, `slowest` is in seconds."""

    def __init__(self, url: str) -> None:
        self._url, self._over = url, threading.Event()
        self.answers, self.slowest, self.failed = 0, 0.0, list[str]()

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(CLIENTS) as threads:
            asked = [threads.submit(self._ask, each % 2 == 0) for each in range(CLIENTS)]
            try:
                yield
            finally:
                self._over.set()
        for each in asked:
            each.result()

    def _ask(self, keeps_connection: bool) -> None:
        limits = httpx.Limits(max_keepalive_connections=1 if keeps_connection else 0)
        with httpx.Client(base_url=self._url, timeout=60, limits=limits) as http:
            while not self._over.wait(0.03):
                began = time.monotonic()
                try:
                    answer = http.get("/api/collections")
                    if not answer.is_success:
                        self.failed.append(f"{answer.status_code} {answer.text}")
                except httpx.TransportError as error:
                    self.failed.append(f"{keeps_connection=} {error!r}")
                self.answers += 1
                self.slowest = max(self.slowest, time.monotonic() - began)


def follow(url: str) -> list[str]:
    """The names of a stream's events, to its end."""
    with httpx.stream("GET", f"{url}/api/events", timeout=60) as answer:
        return [line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event: ")]


def test_nobody_notices_that_a_web_server_is_replaced(
    running_app: RunningApp, webs: tuple[Web, Web], capsys: pytest.CaptureFixture[str]
):
    old, new = webs
    with Balancer(old.port) as balancer, ThreadPoolExecutor(STREAMS + 1) as others:
        load = Load(url := f"http://127.0.0.1:{balancer.port}")
        streams = [others.submit(follow, url) for _ in range(STREAMS)]
        with load.running():
            running_app.wait_for("the streams", lambda: open_streams(old) == STREAMS)
            with a_request_under_way(running_app, others, url) as asked:
                balancer.server_port = new.port
                old.process.send_signal(signal.SIGTERM)
                stopped = time.monotonic()
            assert asked.result().status_code == 200
            assert [stream.result() for stream in streams] == [["connected", "closed"]] * STREAMS
            assert old.process.wait(60) == 0, old.log.read_text()[-2000:]
            took, answers = time.monotonic() - stopped, load.answers
            running_app.wait_for("answers of the new one", lambda: load.answers > answers + 10 * CLIENTS)
    assert load.failed == []
    with capsys.disabled():
        sys.stdout.write(
            f"\nrolling restart: {load.answers} requests of {CLIENTS} clients, {len(load.failed)} failed, "
            f"the slowest took {load.slowest:.2f} s; {STREAMS} streams told to return; gone in {took:.1f} s\n"
        )


def open_streams(web: Web) -> float:
    text = httpx.get(f"http://127.0.0.1:{web.port}/metrics", timeout=30).text
    found = re.search(r"(?m)^sse_connections_active (\S+)$", text)
    return float(found[1]) if found else 0


@contextmanager
def a_request_under_way(
    app: RunningApp, threads: ThreadPoolExecutor, url: str
) -> Iterator[Future[httpx.Response]]:
    """One that the block begins and does not end: it waits for a lock that is held until after the block."""
    somebody = psycopg2.connect(app.stack.environment["DATABASE_URL"])
    try:
        cursor = somebody.cursor()
        cursor.execute("LOCK TABLE datasets IN ACCESS EXCLUSIVE MODE")
        asked = threads.submit(httpx.get, f"{url}/api/datasets", timeout=60)
        app.wait_for("the request", lambda: waits_for_a_lock(app))
        yield asked
        cursor.execute("SELECT pg_sleep(1)")  # the old one is told to stop and has something to do
        assert not asked.done()
    finally:
        somebody.close()


def waits_for_a_lock(app: RunningApp) -> bool:
    connection = psycopg2.connect(app.stack.environment["DATABASE_URL"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return cursor.fetchone() != (0,)
    finally:
        connection.close()
