"""F18: writes to a server's disk fail, by strace: it makes the kernel's answers up."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.chaos.world import ImpossibleError, World

_FAILING_SECONDS = 3.0
_CALLS = "pwrite64,pwritev,pwritev2,write,writev,fsync,fdatasync"
_MOST_FILES = 200


def fail(world: World, target: str) -> None:
    """Every write and sync of the server's files is answered with EIO; a supervisor starts what dies.

    NATS is restarted in any case: it gives up a stream for writing at its first error.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise ImpossibleError("strace is not installed")
    inject = f"{_CALLS}:error=EIO"
    words = [strace, "-qq", "-f", "-o", "/dev/null", "-e", f"trace={_CALLS}", "-e", f"inject={inject}"]
    words += [word for path in _files(world, target) for word in ("-P", str(path))]
    words += [word for process in _processes(world, target) for word in ("-p", str(process.pid))]
    tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(_FAILING_SECONDS)
    refused = tracer.poll() is not None and world.stack.alive(target)
    tracer.send_signal(signal.SIGINT)  # lets go of what it traces
    _, said = tracer.communicate(timeout=30)
    if refused:
        raise ImpossibleError(f"strace: {said.decode()[-200:]}")
    if target == "nats":
        world.stack.restart("nats")
        world.lose_streams()
    else:
        world.mend("postgres")


def _files(world: World, target: str) -> list[Path]:
    """The newest of those that the server writes; sockets are not among them."""
    home = Path(world.stack.options.data_dir) / target
    parts = ("*.blk",) if target == "nats" else ("pg_wal/0*", "pg_xact/*")
    found = [path for part in parts for path in home.rglob(part) if path.is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime)[-_MOST_FILES:]


def _processes(world: World, target: str) -> list[psutil.Process]:
    first = psutil.Process(world.stack.pid(target))
    return [first, *first.children(recursive=True)]
