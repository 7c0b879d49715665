"""Worker processes that are replaced after some messages, which Dramatiq leaves to a middleware."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from dramatiq.middleware import Middleware

log = logging.getLogger(__name__)


class MaxTasksPerChild(Middleware):
    """Asks the `dramatiq` command line for a hot restart once one of its processes has run `max_tasks`.

    All its processes are replaced then, however many messages each has run, and finish first what they are
    running (--worker-shutdown-timeout). Other command lines go on, so run two where work must not pause. A
    second request during a restart would end the others' work at once; so the processes of a command line
    tell each other through a file in the folder for temporary files. Without a command line (a Worker of
    your own) nothing is replaced. Raises ValueError.
    """

    def __init__(self, max_tasks: int) -> None:
        if max_tasks < 1:
            raise ValueError(f"max_tasks must be at least 1, not {max_tasks!r}")
        self._left = max_tasks
        self._lock = threading.Lock()
        self._command_line: int | None = None
        self._booted = 0.0

    def after_process_boot(self, broker: Any) -> None:  # noqa: ARG002 (Dramatiq's signature)
        """Only the command line says so."""
        self._command_line, self._booted = os.getppid(), time.time()

    def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:  # noqa: ARG002
        """Count a run, whatever became of it."""
        with self._lock:
            self._left -= 1
            due = self._left == 0
        if due and self._command_line is not None and _is_first(self._command_line, self._booted):
            log.info("This process has run its share of messages; the command line restarts its workers.")
            os.kill(self._command_line, signal.SIGHUP)


def _is_first(command_line: int, since: float) -> bool:
    """True for the first of a command line's processes that asks; `since` is when the caller began."""
    path = Path(tempfile.gettempdir()) / f"dramatiq-restart-{os.getuid()}-{command_line}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        asked = os.read(file, 100).decode()
        if asked and float(asked) > since:
            return False  # it is on its way to us, too
        os.pwrite(file, f"{time.time():020.6f}".encode(), 0)
    finally:
        os.close(file)
    return True
