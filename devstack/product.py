"""Runs the product's own processes from the Procfile: for the demo, for `make run` and for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.errors import StackError
from devstack.process import Command, Process, log_tail

ROOT = Path(__file__).resolve().parent.parent
_READY_TIMEOUT_SECONDS = 120.0
# Threads on a laptop: the pools share its cores with five servers, so fewer than in production.
_LAPTOP_THREADS = {"collections": 4, "datasets": 2, "visualizations": 1}
# Compiling the map's code on first use must not hold up the first search on a machine of two cores.
_COURTESY = {"visualizations": "nice -n 10 "}
_GRACE_SECONDS = {"web": 5.0, "visualizations": 5.0}


def read_procfile(path: Path = ROOT / "Procfile") -> dict[str, str]:
    """Process name → command line."""
    lines = (re.match(r"([a-z0-9_-]+):\s*(.+)", line) for line in path.read_text().splitlines())
    return {match[1]: match[2] for match in lines if match}


class Product:
    """Web and the pools against servers that `environment` names; a context manager.

    `health_ports` are those of pools whose health and metrics are to be served.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        data_dir: Path,
        port: int,
        health_ports: Mapping[str, int] | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self._logs = data_dir / "logs"
        self._health_ports = health_ports or {}
        self._say = on_event or (lambda _: None)
        self._commands = read_procfile()
        self._release = self._commands.pop("release")
        self._processes: dict[str, Process] = {}
        self.environment = _base_environment() | {
            "HOSTNAME": "127.0.0.1",
            "PORT": str(port),
            "LOG_FORMAT": "text",
            "MODEL_CACHE_DIR": str(ROOT / ".data" / "models"),
            "NUMBA_CACHE_DIR": str(ROOT / ".data" / "numba"),
            **environment,
        }
        # Linux ends a child when the *thread* that started it ends, so one thread starts them all.
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="product-spawner")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Migrate, start every process and wait until the web server says that it is ready.

        Raises StackError with the tail of the log of what failed.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            self.migrate()
            for name in self._commands:
                self.begin(name)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def migrate(self) -> None:
        """Run the release line."""
        done = subprocess.run(
            ["/bin/sh", "-c", self._release],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"{self._release} failed:\n{done.stdout}{done.stderr}")

    def begin(self, name: str) -> None:
        """Start one process of the Procfile."""
        own = {"MAX_CONCURRENT_JOBS": str(_LAPTOP_THREADS[name])} if name in _LAPTOP_THREADS else {}
        if name in self._health_ports:
            own["HEALTH_CHECK_PORT"] = str(self._health_ports[name])
        command = Command(
            argv=["/bin/bash", "-c", f"cd '{ROOT}' && exec {_COURTESY.get(name, '')}{self._commands[name]}"],
            environment=self.environment | own,
            death_signal=signal.SIGTERM,
        )
        self._processes[name] = self._spawner.submit(Process, command, self.log(name)).result()

    def stop(self) -> None:
        """Ask every process to stop, all at once, and end hard what is still there after its grace."""
        with ThreadPoolExecutor(max_workers=len(self._commands)) as pool:
            list(pool.map(self.end, tuple(self._processes)))
        self._spawner.shutdown()

    def end(self, name: str) -> None:
        """Stop one process and its children."""
        self._processes.pop(name).end(signal.SIGTERM, _GRACE_SECONDS.get(name, 8.0))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Signal a process's whole group: a fault, for tests."""
        os.killpg(self._processes[name].pid, number)

    def restart_dead(self) -> list[str]:
        """Start again what has ended by itself, as a supervisor in production would; returns the names."""
        dead = [name for name, process in self._processes.items() if not process.alive()]
        for name in dead:
            self.begin(name)
        return dead

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self._logs / f"{name}.log"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while not self._is_ready():
            for name, process in self._processes.items():
                if not process.alive():
                    raise StackError(f"{name} ended while starting:\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"the web server did not get ready:\n{log_tail(self.log('web'))}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/health/ready", timeout=10) as response:  # noqa: S310
                return bool(response.status == 200)  # noqa: PLR2004
        except (urllib.error.URLError, OSError):
            return False


def _base_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"HOME", "LANG", "TMPDIR", "USER"}}  # noqa: TID251
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",  # noqa: TID251
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
