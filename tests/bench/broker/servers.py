"""The servers of all systems, on free loopback ports with fresh data; killable and startable again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from tests.bench.broker.processes import stop_politely
from tests.integration.broker.server import NatsCluster, NatsServer, free_port

_START_SECONDS = 60.0
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the wrapper in PATH insists on its own account


class Server(ABC):
    """A broker's server process or processes."""

    replicas = 1

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def start(self) -> None:
        """Start, with the data of before if there is any; ready when this returns."""

    @abstractmethod
    def kill(self) -> None:
        """kill -9."""

    @abstractmethod
    def pids(self) -> list[int]:
        """The server's processes."""

    def stop(self) -> None:
        """End it for good."""
        self.kill()


class Nats(Server):
    """nats-server alone or as a cluster; syncs every two minutes (its default) or at every write."""

    def __init__(self, folder: Path, *, replicas: int = 1, always: bool = False) -> None:
        self.replicas = replicas
        self._cluster = NatsCluster(folder, replicas) if replicas > 1 else None
        self._always = always
        self._servers = self._cluster.servers if self._cluster else [NatsServer(folder)]
        if always:
            folder.mkdir(parents=True, exist_ok=True)
            config = folder / "sync.conf"
            config.write_text("jetstream { sync_interval: always }\n")
            for server in self._servers:
                server.arguments += ["-c", str(config)]

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self._servers)

    def start(self) -> None:
        if self._cluster:
            self._cluster.start()
        else:
            self._servers[0].start()
        assert self._syncs_always() == self._always, "the server syncs otherwise than its row says"

    def kill(self) -> None:
        for server in self._servers:
            server.kill()

    def pids(self) -> list[int]:
        return [server.process.pid for server in self._servers if server.process]

    def _syncs_always(self) -> bool:
        """What the server says about itself."""
        return all(bool(s.monitor("varz")["jetstream"]["config"].get("sync_always")) for s in self._servers)


class Redis(Server):
    """redis-server without persistence, or with an append-only file that is synced at every write."""

    def __init__(self, folder: Path, *, append_only: bool = False) -> None:
        self._folder, self._port = folder, free_port()
        self._persistence = ("yes", "always") if append_only else ("no", "no")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        append_only, sync = self._persistence
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--save", ""]
        command += ["--dir", str(self._folder), "--appendonly", append_only, "--appendfsync", sync]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        _wait(lambda: _answers(self._port, b"PING\r\n", b"+PONG"), self._process, self._folder / "server.log")

    def kill(self) -> None:
        _kill(self._process)

    def pids(self) -> list[int]:
        return [self._process.pid] if self._process else []


class RabbitMQ(Server):
    """rabbitmq-server with an epmd, a cookie and a node of its own, everything on loopback."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._epmd_port, self._node_port = free_port(), free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}/%2F"

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "plugins").write_text("[].\n")
        (self._folder / "rabbitmq.conf").touch()
        with (self._folder / "server.log").open("ab") as log:
            if self._epmd is None:
                epmd = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
                self._epmd = subprocess.Popen(epmd, stdout=log, stderr=log)
            self._process = subprocess.Popen(
                [str(_RABBITMQ)], env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        _wait(
            lambda: _answers(self._port, b"AMQP\x00\x00\x09\x01", b"\x01"),
            self._process,
            self._folder / "server.log",
        )

    def kill(self) -> None:
        if self._process is not None:
            stop_politely(self._process, signal.SIGKILL, seconds=10)

    def pids(self) -> list[int]:
        return [self._process.pid] if self._process else []

    def stop(self) -> None:
        self.kill()
        _kill(self._epmd)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.kill()
        process.wait()


def _answers(port: int, question: bytes, beginning: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(question)
            return connection.recv(64).startswith(beginning)
    except OSError:
        return False


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server does not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def missing_programs() -> dict[str, str]:
    """Server that is not installed → the Debian package that has it."""
    missing = {} if shutil.which("redis-server") else {"redis": "redis-server"}
    return missing if _RABBITMQ.exists() else {**missing, "rabbitmq": "rabbitmq-server"}
