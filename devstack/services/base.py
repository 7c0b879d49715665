"""What the supervisor needs to know of a server, and the small things every server module uses."""

from __future__ import annotations

import http.client
import shutil
import signal
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from devstack.errors import StackError
from devstack.ports import HOST
from devstack.process import Command

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Site:
    """Where a server lives: its own folder, its ports, its passwords."""

    data: Path
    run: Path
    logs: Path
    base_port: int
    durable: bool
    postgres_password: str
    s3_access_key: str
    s3_secret_key: str

    def port(self, offset: int) -> int:
        """Return a port of the block."""
        return self.base_port + offset


class Service(Protocol):
    """A server of the stack."""

    name: ClassVar[str]
    grpc_offsets: ClassVar[tuple[int, ...]]  # ports of the block that are also taken 10000 higher
    stop_signal: ClassVar[signal.Signals]
    grace_seconds: ClassVar[float]

    def prepare(self) -> None:
        """Make folders and configuration; runs before every start and may take seconds the first time."""
        ...

    def command(self) -> Command:
        """Return what to run."""
        ...

    def healthy(self) -> bool:
        """Tell whether the server answers as its clients need it to."""
        ...

    def cleanup(self) -> None:
        """Remove what the server leaves outside its data folder; runs after every stop."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the settings through which the product finds the server."""
        ...


def executable(name: str) -> str:
    """Return the path of a program that a wheel installed beside this Python; StackError without it."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        raise StackError(f"{name} is not installed: run `make install` (dependency group demo) first")
    return found


def python_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return argv and environment that run a module of this package."""
    argv = [sys.executable, "-m", module, *arguments]
    return argv, {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


def http_ok(port: int, path: str, *, timeout_seconds: float = 1.0) -> bool:
    """Tell whether GET answers 200; proxies of the environment are not consulted."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
