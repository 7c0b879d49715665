"""What can be broken: servers behind proxies, the product's processes, and a note of all that was done."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from app.config import Settings
from app.container import Container, build
from devstack.product import ROOT, Product
from devstack.stack import Stack
from tests.chaos.load import Load
from tests.chaos.people import Listener
from tests.chaos.proxy import Proxy
from tests.integration.broker.server import NatsCluster
from tests.support.identity import IdentityProvider
from tests.support.providers import EmbeddingServer

POOLS = ("collections", "datasets", "visualizations")
_NEW_MOUNTS = 0x20000  # CLONE_NEWNS


class ImpossibleError(Exception):
    """This machine does not allow the fault."""


@dataclass
class World:
    """One run. `environment` leads to the servers directly, `product_environment` through the proxies.

    `streams_lost_at` is Postgres' time of the last moment in which a stream lost something: of dead jobs
    before that, no letter is asked for. `violations` are sentences about what must not be.
    """

    stack: Stack
    product: Product
    provider: EmbeddingServer
    proxies: Mapping[str, Proxy]
    load: Load
    environment: dict[str, str]
    folder: Path
    disks: Mapping[str, Path]  # small file systems by server; empty where mounting is not allowed
    hurry: bool
    identity: IdentityProvider
    cluster: NatsCluster | None = None  # instead of the NATS of the stack
    listeners: list[Listener] = field(default_factory=list)  # one per account
    streams_lost_at: datetime | None = None
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def product_environment(self) -> dict[str, str]:
        return self.product.environment

    def flask(self, *words: str) -> None:
        """Run one of the product's commands."""
        command = " ".join(("flask --app wsgi", *words))
        environment = {**self.product_environment, **self.environment}
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stderr[-2000:]}")

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query, or none where it has none; committed."""
        with database(self.environment) as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, statement: str, *values: Any) -> Any:
        """The one value that a query answers with."""
        return self.rows(statement, *values)[0][0]

    def now(self) -> datetime:
        """Postgres' time."""
        moment: datetime = self.value("SELECT clock_timestamp()")
        return moment

    def processes(self, name: str) -> list[psutil.Process]:
        """The processes behind a name of the Procfile, the one that was started first."""
        first = psutil.Process(self.product._processes[name].pid)
        return [first, *first.children(recursive=True)]

    def lose_streams(self) -> None:
        """Note that messages or letters may be gone from here on backwards."""
        self.streams_lost_at = self.now()

    def mend(self, server: str) -> None:
        """What a supervisor with a liveness probe does: start again what is dead, or no longer healthy."""
        healthy = self.stack._services[server].healthy
        if not self.stack.alive(server) or not until(healthy, seconds=3):
            self.stack.restart(server)


def until(ready: Callable[[], Any], *, seconds: float, pause: float = 0.1) -> Any:
    """Ask until the answer is true, and return that; None when it took too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(pause)
    return None


@contextmanager
def database(environment: Mapping[str, str]) -> Iterator[Any]:
    """A cursor of a connection of its own, also where the database is set to read only."""
    options = "-c default_transaction_read_only=off"
    connection = psycopg2.connect(environment["DATABASE_URL"], options=options, connect_timeout=10)
    try:
        with connection, connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def opened(environment: Mapping[str, str]) -> Iterator[Container]:
    """The product's own clients, for looking at the stores."""
    container = build(Settings.from_env(environment))
    try:
        yield container
    finally:
        container.close()
        container.broker.close()


@contextmanager
def small_disks(folder: Path) -> Iterator[dict[str, Path]]:
    """Mount small file systems below `folder`, seen by this process and its children only.

    Empty where that is not allowed. Should this process be killed, the kernel removes them with its children.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(_NEW_MOUNTS) != 0:
        yield {}
        return
    with ExitStack() as mounts:
        # The first holds all that is not on one of its own: Postgres, vectors, logs.
        disks = {
            "postgres": (folder, "1536m"),
            "nats": (folder / "nats", "192m"),
            "s3": (folder / "s3", "4g"),
        }
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        for path, size in disks.values():
            path.mkdir(parents=True, exist_ok=True)
            words = ["-t", "tmpfs", "-o", f"size={size},mode=755", "chaos", str(path)]
            subprocess.run(["mount", *words], check=True)
            mounts.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
        yield {name: path for name, (path, _) in disks.items() if name != "s3"}
