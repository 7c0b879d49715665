"""Real nats-servers of a test's own: fresh ports and stores, killable, restartable, alone or as a cluster."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

_BINARY = Path(sys.executable).with_name("nats-server")
_START_SECONDS, _CLUSTER_SECONDS = 40.0, 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One server; `arguments` are added to its command line (for example a configuration file)."""

    def __init__(self, store: Path, *arguments: str) -> None:
        self.store = store
        self.port, self.monitor_port = free_port(), free_port()
        self.arguments = list(arguments)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start without waiting."""
        self.store.mkdir(parents=True, exist_ok=True)
        command = [str(_BINARY), "-js", "-sd", str(self.store), "-a", "127.0.0.1", "-p", str(self.port)]
        command += ["-m", str(self.monitor_port), *self.arguments]
        with (self.store / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def start(self) -> None:
        self.launch()
        self.wait_listening()

    def wait_listening(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError((self.store / "server.log").read_text())

    def monitor(self, path: str) -> dict[str, Any]:
        """The server's own monitoring pages, such as "jsz?streams=1" or "healthz"."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor_port}/{path}", timeout=5) as answer:
            return dict(json.load(answer))

    def healthy(self) -> bool:
        try:
            return bool(self.monitor("healthz").get("status") == "ok")
        except (OSError, ValueError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """The polite end, as of a planned restart."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(_START_SECONDS)
            self.process = None


class NatsCluster:
    """Servers that replicate to each other, all on loopback."""

    def __init__(self, store: Path, size: int = 3) -> None:
        routes = [free_port() for _ in range(size)]
        peers = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
        self.servers = [
            NatsServer(
                store / f"node{number}",
                *("--name", f"node{number}", "--cluster_name", "test"),
                *("--cluster", f"nats://127.0.0.1:{route}", "--routes", peers),
            )
            for number, route in enumerate(routes)
        ]

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def start(self) -> None:
        for server in self.servers:
            server.launch()
        self.wait_healthy()

    def wait_healthy(self) -> None:
        """Until every running server says that JetStream is current."""
        deadline = time.monotonic() + _CLUSTER_SECONDS
        running = [server for server in self.servers if server.process is not None]
        while not all(server.healthy() for server in running):
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.1)

    def leader_of(self, stream: str) -> NatsServer:
        """The server that leads a stream now."""
        deadline = time.monotonic() + _CLUSTER_SECONDS
        while time.monotonic() < deadline:
            for server in self.servers:
                name = self._leads(server, stream)
                if name is not None:
                    return self.servers[int(name.removeprefix("node"))]
            time.sleep(0.1)
        raise AssertionError(f"stream {stream} has no leader")

    def _leads(self, server: NatsServer, stream: str) -> str | None:
        if server.process is None or not server.healthy():
            return None
        for account in server.monitor("jsz?streams=1").get("account_details") or []:
            for detail in account.get("stream_detail") or []:
                if detail["name"] == stream:
                    return (detail.get("cluster") or {}).get("leader") or None
        return None

    def kill(self) -> None:
        for server in self.servers:
            server.kill()
