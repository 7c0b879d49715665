"""Servers of a supervisor that was killed: Linux ends them with it, elsewhere the next start does."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

_PATIENCE_SECONDS = 5.0
_SAME_START_SECONDS = 1.0


def identity(pid: int) -> list[float] | None:
    """Return [pid, start time], which no other process will ever have; None if it is gone."""
    import psutil

    try:
        return [float(pid), psutil.Process(pid).create_time()]
    except psutil.Error:
        return None


def end_leftovers(children: Mapping[str, Sequence[float]]) -> None:
    """Wait for the servers of an earlier supervisor to go; end hard those that stay."""
    import psutil

    alive = []
    for pid, started in children.values():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            if abs(process.create_time() - started) < _SAME_START_SECONDS:
                alive.append(process)
    _, stubborn = psutil.wait_procs(alive, timeout=_PATIENCE_SECONDS)
    for process in stubborn:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=_PATIENCE_SECONDS)
