"""Process trees that the bench started: freezing, ending, and what they cost in processor time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable

import psutil


def tree(pids: Iterable[int]) -> list[int]:
    """These processes and all their children that are alive."""
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found += [pid, *(child.pid for child in root.children(recursive=True))]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal to each of our processes that is alive."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes have used so far, ended threads included."""
    return sum(_nanoseconds(pid) for pid in pids) / 1e9


def memory_mb(pids: Iterable[int]) -> float:
    """Resident memory of these processes in MB."""
    used = 0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            used += int(psutil.Process(pid).memory_info().rss)
    return used / 1e6


def _nanoseconds(pid: int) -> int:
    # The processor clock of another process, as clock_getcpuclockid(3) makes it: /proc counts in 10 ms only.
    with contextlib.suppress(OSError):
        return time.clock_gettime_ns((~pid << 3) | 2)
    return 0


def stop_politely(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> None:
    """Signal a process and its children, wait for the end, kill what is left."""
    pids = tree([process.pid])
    send(pids, number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_runs(pid) for pid in pids):
        time.sleep(0.02)
    send([pid for pid in pids if _runs(pid)], signal.SIGKILL)
    process.wait()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
