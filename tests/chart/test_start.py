"""What the chart renders starts the real program, where only the pod's volumes can be written to.

No server is there: a process must come up, answer its liveness probe and end on SIGTERM all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.security.tokens import fresh_api_token
from devstack.product import ROOT
from tests.chart.rendering import WORKLOADS, rendered
from tests.support.app_processes import free_port

pytestmark = pytest.mark.integration
NOBODY_LISTENS = "127.0.0.1:1"
VOLUMES = ("/tmp", "/var/cache/semantic-explorer")
# Everything below / read-only, the volumes writable; whoever finds another writable place gives up.
READ_ONLY = """
set -e
root=$1 volumes=$2 here=$3; shift 3
mount --rbind / "$root"
mount -o remount,bind,ro "$root"
mount --bind "$volumes" "$root$volumes"
for place in / /tmp /var/tmp "$here"; do
  if touch "$root$place/written" 2>/dev/null; then echo "$place can be written to"; exit 97; fi
done
exec chroot "$root" env -C "$here" "$@"
"""


def environment(name: str, port: int, volumes: Path) -> dict[str, str]:
    """Of a rendered container: its Secrets filled, its servers where none is, its volumes in a folder."""
    env = rendered("quickstart").env(name)
    env |= {"HOSTNAME": "127.0.0.1", "PORT": str(port)} if name == "api" else {}
    env |= {"HEALTH_CHECK_HOST": "127.0.0.1", "HEALTH_CHECK_PORT": str(port)} if name != "api" else {}
    env |= {
        "DATABASE_URL": f"postgresql://explorer@{NOBODY_LISTENS}/semantic_explorer",
        "NATS_URL": f"nats://{NOBODY_LISTENS}",
        "QDRANT_URL": f"http://{NOBODY_LISTENS}",
        "AWS_ENDPOINT_URL": f"http://{NOBODY_LISTENS}",
        "ENCRYPTION_MASTER_KEY": "5e" * 32,
    }
    for number, volume in enumerate(VOLUMES):
        (volumes / str(number)).mkdir()
        env = {key: re.sub(f"^{volume}", str(volumes / str(number)), value) for key, value in env.items()}
    # Beside the interpreter lie gunicorn and dramatiq, as in the image.
    return env | {
        "TMPDIR": env["HOME"],
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
    }


def command(name: str, env: dict[str, str]) -> list[str]:
    """As Kubernetes starts it: $(NAME) filled in, no shell."""
    words = rendered("quickstart").container(name)["command"]
    return [re.sub(r"\$\((\w+)\)", lambda found: env[found[1]], word) for word in words]


class Started:
    """One process, what it says, and how long it may take to end, its hook left out."""

    def __init__(self, name: str, folder: Path, **changes: str) -> None:
        self.port, self.log = free_port(), folder / "log"
        root, volumes = folder / "root", folder / "volumes"
        root.mkdir()
        volumes.mkdir()
        env = environment(name, self.port, volumes) | changes
        pod = rendered("quickstart").pods[name]["spec"]
        hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        self.grace_seconds = pod.get("terminationGracePeriodSeconds", 30) - hook.get("seconds", 0)
        alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*alone, str(root), str(volumes), str(ROOT), *command(name, env)],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self) -> None:
        """With all its children, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_said(self, words: str) -> None:
        """Workers write through a process of their own, which may be late."""
        deadline = time.monotonic() + 60
        while words not in self.log.read_text():
            assert time.monotonic() < deadline, f"never said: {words}"
            time.sleep(0.1)

    def wait_alive(self, path: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}{path}").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        pytest.fail(f"{path} is not answered: {self.log.read_text()[-2000:]}")


def namespaces_are_allowed() -> bool:
    asked = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and not subprocess.run(asked, check=False).returncode


@pytest.fixture(scope="module")
def dumb() -> Iterator[str]:
    """Where traces go: a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, dumb: str) -> Iterator[dict[str, Started]]:
    """All at once: that takes no longer than the slowest."""
    if not namespaces_are_allowed():
        pytest.skip("this machine lets nobody make a namespace")
    running = {
        name: Started(name, tmp_path_factory.mktemp(name), OTEL_EXPORTER_OTLP_ENDPOINT=dumb)
        for name in WORKLOADS.values()
    }
    yield running
    for one in running.values():
        one.end()


def test_the_api_says_that_it_started_and_that_keys_are_sealed(started: dict[str, Started]):
    if started["api"].process.poll() is None:  # else it has said all it had to say
        started["api"].wait_alive("/health/live")
    lines = [json.loads(line) for line in started["api"].log.read_text().splitlines() if line.startswith("{")]
    said = {line["message"]: line for line in lines}
    assert said["API server started"]["service"] == "api"
    assert any("encryption" in message.lower() for message in said)
    # RUST_LOG is warn but for our own: gunicorn's lines about itself are left out.
    assert not [message for message in said if "Listening at" in message or "Booting worker" in message]


def said_to_its_end(one: Started, name: str) -> str:
    """All that a process says, once it is alive and, but for maps, was told to end and did in its grace."""
    if one.process.poll() is None:
        one.wait_alive(rendered("quickstart").container(name)["livenessProbe"]["httpGet"]["path"])
        if name == "api":
            httpx.get(f"http://127.0.0.1:{one.port}/api/collections", timeout=30)  # a span to be sent
        if name == "worker-visualizations-py":  # it first compiles for a minute, and may: its grace is five
            one.wait_said("health checks")
        else:
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(one.grace_seconds) == 0, one.log.read_text()[-2000:]
    return one.log.read_text()


@pytest.mark.parametrize("name", WORKLOADS.values())
def test_the_real_program_starts_on_a_read_only_root_and_heeds_sigterm(
    started: dict[str, Started], name: str
):
    one = started[name]
    said = said_to_its_end(one, name)
    assert "Read-only file system" not in said
    assert "Traceback" not in said
    assert name == "api" or f"health checks are answered on port {one.port}" in said


@pytest.mark.parametrize("name", WORKLOADS.values())
def test_every_line_of_a_service_is_one_object_of_json(started: dict[str, Started], name: str):
    """Those of the servers that it runs under, too: gunicorn's and Dramatiq's."""
    lines = [json.loads(line) for line in said_to_its_end(started[name], name).splitlines()]
    assert lines
    assert {line["service"] for line in lines} == {"worker-visualizations" if name.endswith("-py") else name}
    assert {"timestamp", "level", "message", "version"} <= set.intersection(*map(set, lines))


def test_the_migrations_begin_on_a_read_only_root_and_say_which_server_is_away(tmp_path: Path):
    if not namespaces_are_allowed():
        pytest.skip("this machine lets nobody make a namespace")
    job = Started("migrations", tmp_path)
    try:
        assert job.process.wait(60) == 2, job.log.read_text()[-2000:]
    finally:
        job.end()
    assert "Postgres: " in job.log.read_text()
    assert "Read-only file system" not in job.log.read_text()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


def test_the_api_finishes_a_request_after_sigterm(silent: socket.socket, tmp_path: Path):
    if not namespaces_are_allowed():
        pytest.skip("this machine lets nobody make a namespace")
    database = f"postgresql://explorer@127.0.0.1:{silent.getsockname()[1]}/semantic_explorer"
    api = Started("api", tmp_path, DATABASE_URL=database)
    try:
        api.wait_alive("/health/live")
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(httpx.get, f"http://127.0.0.1:{api.port}/health/ready", timeout=30)
            connection, _ = silent.accept()  # readiness waits for this server: the request is under way
            api.process.send_signal(signal.SIGTERM)
            assert "components" in asked.result().json()
            connection.close()
        assert api.process.wait(60) == 0
    finally:
        api.end()


def test_the_api_waits_for_its_requests_no_longer_than_it_is_told(silent: socket.socket, tmp_path: Path):
    if not namespaces_are_allowed():
        pytest.skip("this machine lets nobody make a namespace")
    database = f"postgresql://explorer@127.0.0.1:{silent.getsockname()[1]}/semantic_explorer"
    api = Started("api", tmp_path, DATABASE_URL=database, SHUTDOWN_TIMEOUT_SECS="1")
    try:
        api.wait_alive("/health/live")
        with ThreadPoolExecutor(1) as thread:
            url = f"http://127.0.0.1:{api.port}/api/collections"
            host = urlsplit(rendered("quickstart").env("api")["PUBLIC_URL"]).netloc
            headers = {"Host": host, "Authorization": f"Bearer {fresh_api_token()}"}
            asked = thread.submit(httpx.get, url, headers=headers, timeout=60)
            connection, _ = silent.accept()  # who asks is looked up in vain, until it is a 503 in ten seconds
            api.process.send_signal(signal.SIGTERM)
            assert api.process.wait(60) == 0
            with pytest.raises(httpx.TransportError):
                asked.result()
            connection.close()
    finally:
        api.end()
