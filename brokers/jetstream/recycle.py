"""Worker processes that are replaced after some messages, which Dramatiq leaves to a middleware."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from dramatiq.middleware import Middleware

log = logging.getLogger(__name__)

# More than what lies between a request and the moment at which a worker process is told to stop.
_PATIENCE_SECONDS = 30.0


class MaxTasksPerChild(Middleware):
    """Asks the `dramatiq` command line for a hot restart once one of its processes has run `max_tasks`.

    All its processes are replaced then, however many messages each has run, and finish first what they are
    running (--worker-shutdown-timeout). Other command lines go on, so run two where work must not pause. A
    second request during a restart would end the others' work at once; so the processes of a command line
    tell each other through a file in the folder for temporary files. A request that comes to nothing is
    made again after a minute. Without a command line (a Worker of your own) nothing is replaced. Raises
    ValueError.
    """

    def __init__(self, max_tasks: int) -> None:
        if max_tasks < 1:
            raise ValueError(f"max_tasks must be at least 1, not {max_tasks!r}")
        self._left = max_tasks
        self._lock = threading.Lock()
        self._command_line: int | None = None
        self._parent = 0  # the command line, or the server that forks for it
        self._since = 0.0  # no request from before that moment reaches us
        self._stopping = threading.Event()

    def after_process_boot(self, broker: Any) -> None:  # noqa: ARG002 (Dramatiq's signature)
        """Only the command line says so."""
        command_line = multiprocessing.parent_process()
        self._parent, self._since = os.getppid(), time.monotonic()
        self._command_line = self._parent if command_line is None else command_line.pid

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002
        """Somebody's request was heard, or this process ends for another reason."""
        self._stopping.set()

    def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:  # noqa: ARG002
        """Count a run, whatever became of it."""
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due and self._command_line is not None and not self._stopping.is_set():
            self._ask(self._command_line)
            threading.Thread(
                target=self._insist, args=(self._command_line,), name="recycle", daemon=True
            ).start()

    def _insist(self, command_line: int) -> None:
        """Whoever asked first may have died before it did, and left word that it had.

        Two waits: one may end with a call that held the interpreter's lock all the while, before the main
        thread could say that this process is to stop.
        """
        while not (self._stopping.wait(_PATIENCE_SECONDS) or self._stopping.wait(_PATIENCE_SECONDS)):
            self._ask(command_line)

    def _ask(self, command_line: int) -> None:
        if os.getppid() != self._parent:
            log.warning("This process has run its share of messages, and its command line is gone.")
            return
        try:
            first = _is_first(command_line, self._since)
        except OSError as error:
            log.warning(
                "This process has run its share of messages, but is not replaced: its neighbours cannot be "
                "told of it, and two requests would end their work: %s", error,
            )  # fmt: skip
            return
        finally:
            self._since = time.monotonic()
        if first:
            log.info("This process has run its share of messages; the command line restarts its workers.")
            os.kill(command_line, signal.SIGHUP)


def _is_first(command_line: int, since: float) -> bool:
    """True for the first of a command line's processes that asks; `since` is of the monotonic clock."""
    name = f"dramatiq-restart-{os.getuid()}-{_process_space()}-{command_line}"
    path = Path(tempfile.gettempdir()) / name
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if _asked_at(os.read(file, 100)) > since:
            return False  # it is on its way to us, too
        os.pwrite(file, f"{time.monotonic():020.6f}".encode(), 0)
    finally:
        os.close(file)
    return True


def _asked_at(written: bytes) -> float:
    try:
        return float(written)
    except ValueError:  # new, or not ours
        return 0.0


def _process_space() -> str:
    """Where a process id, and a moment of the monotonic clock, mean one thing.

    Containers may share the folder for temporary files, and a folder may outlive the machine's last boot.
    """
    with contextlib.suppress(OSError):  # no Linux
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return "0"
