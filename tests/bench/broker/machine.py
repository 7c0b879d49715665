"""What the report says about the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("dramatiq", "nats-py", "redis", "pika", "celery", "taskiq", "taskiq-nats")


def versions() -> str:
    """Packages and servers that are here, with their versions."""
    found = [f"{name} {known}" for name in _PACKAGES if (known := _package(name))]
    found += [f"{name} {known}" for name, known in _servers().items() if known]
    return ", ".join(found)


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _servers() -> dict[str, str]:
    return {
        "nats-server": _said(str(Path(sys.executable).with_name("nats-server")), "-v"),
        "redis-server": _said("redis-server", "--version"),
        "rabbitmq-server": _said("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"),
    }


def _said(*command: str) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found[0] if found else ""


def syncs_per_second(folder: Path, seconds: float = 1.0) -> float:
    """How often this disk can write 1 kB and be asked to keep it."""
    count, started = 0, time.perf_counter()
    with (folder / "fsync").open("ab", buffering=0) as file:
        while time.perf_counter() < started + seconds:
            file.write(b"x" * 1000)
            os.fsync(file.fileno())
            count += 1
    return count / (time.perf_counter() - started)


def facts(folder: Path) -> str:
    """The machine in one sentence."""
    return (
        f"{len(os.sched_getaffinity(0))} cores, Linux {platform.release().split('-')[0]}, Python "
        f"{platform.python_version()}, {syncs_per_second(folder):,.0f} fsyncs of 1 kB per second"
    )
