"""One server process: start it, ask whether it lives, end it, show the tail of its log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("launch.py")
_OPEN_FILES = 8192


@dataclass(frozen=True)
class Command:
    """A program to run. `user` is (uid, gid) to drop to; `death_signal` arrives when the supervisor dies."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    death_signal: signal.Signals = signal.SIGKILL


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a server: the little it needs, and none of the product's settings."""
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT")
    own = os.environ  # noqa: TID251 - the supervisor is not the product
    return {name: own[name] for name in keep if name in own} | dict(extra)


class Process:
    """A running server in a process group of its own, writing to one log file."""

    def __init__(self, command: Command, log: Path) -> None:
        self._log = log
        uid, gid = command.user or (-1, -1)
        prefix = [str(word) for word in (int(command.death_signal), os.getpid(), uid, gid, _OPEN_FILES)]
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCHER), *prefix, "--", *command.argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=child_environment(command.environment),
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor only
                cwd="/",
            )

    @property
    def pid(self) -> int:
        """Pid of the server, and of its process group."""
        return self._popen.pid

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._popen.poll() is None

    def wait(self, timeout_seconds: float) -> int:
        """Return the exit status; subprocess.TimeoutExpired when it still runs then."""
        return self._popen.wait(timeout_seconds)

    def send(self, number: int) -> None:
        """Send a signal to the server alone."""
        if self.alive():
            self._popen.send_signal(number)

    def end(self, number: int, grace_seconds: float) -> None:
        """Ask it to stop, and end its whole group hard when the grace is over."""
        self.send(signal.SIGCONT)  # a stopped process would not hear the request
        self.send(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(grace_seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(10)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log."""
        return log_tail(self._log, lines)


def log_tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log file, indented."""
    with contextlib.suppress(FileNotFoundError):
        tail = log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in tail)
    return "    (no log)"
