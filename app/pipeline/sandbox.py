"""Runs a function in a child process that can be killed at its time limit.

For work that native code does on files from strangers (it may hang, crash or eat the memory) and for work
too heavy for a thread. Children stay warm: an idle one that has served the same module is reused.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from app import errors
from app.errors import ExplorerError, PermanentError

ProgressCallback = Callable[[Any], None]
WaitCallback = Callable[[], None]

_POLL_SECONDS = 0.25  # how soon a cancelled job or a stopped worker gets its thread back
_GRACE_SECONDS = 5.0  # after the parent's limit the child's own alarm ends it, should the parent be gone
_IDLE_CHILDREN = 2  # per module and process
_CALLS_PER_CHILD = 200  # then a fresh one, so that leaks in native libraries stay small
# What an interpreter and its native libraries need; settings and keys stay with the parent.
_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
)
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from app.pipeline import sandbox_child; sandbox_child.serve(*map(int, sys.argv[2:]))"
)


class ChildTimeoutError(PermanentError):
    """The work did not end within its time limit and was killed."""

    http_status = 422
    code = "time_limit"


class ChildMemoryError(PermanentError):
    """The work asked for more memory than it may have."""

    http_status = 422
    code = "memory_limit"


class ChildCrashedError(PermanentError):
    """The process ended without an answer, or with an error that we do not know."""

    http_status = 422
    code = "process_crashed"


class _Child:
    """One process and the pipe to it; serves one call at a time."""

    def __init__(self) -> None:
        requests_read, requests_write = os.pipe()
        answers_read, answers_write = os.pipe()
        command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(requests_read), str(answers_write)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
                [*command, str(os.getpid())],
                pass_fds=(requests_read, answers_write),
                stdin=subprocess.DEVNULL,
                env={
                    name: os.environ[name]  # noqa: TID251 - not a setting of ours: what the child must inherit
                    for name in _ENVIRONMENT
                    if name in os.environ  # noqa: TID251
                },
            )
        finally:
            os.close(requests_read)
            os.close(answers_write)
        self._requests = Connection(requests_write, readable=False)
        self._answers = Connection(answers_read, writable=False)
        self.calls = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> None:
        self.calls += 1
        try:
            self._requests.send_bytes(json.dumps(request).encode())
        except OSError as error:
            raise ChildCrashedError(f"The process for {request['address']} is gone") from error

    def answers(
        self, deadline: float, address: str, limit_seconds: float, on_wait: WaitCallback | None
    ) -> dict[str, Any]:
        """The next frame; polls, so that exceptions thrown into this thread arrive soon."""
        while not self._answers.poll(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
            if on_wait is not None:
                on_wait()
            if time.monotonic() >= deadline:
                raise ChildTimeoutError(f"{address} did not end within {limit_seconds:g} seconds")
        try:
            frame: dict[str, Any] = json.loads(self._answers.recv_bytes())
        except (EOFError, OSError) as error:
            raise ChildCrashedError(self._obituary(address)) from error
        return frame

    def _obituary(self, address: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLL_SECONDS)
        code = self._process.returncode
        if code is not None and code < 0:
            return f"{address} was ended by {signal.Signals(-code).name}"
        return f"{address} ended without an answer (exit status {code})"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()


_idle: dict[str, list[_Child]] = {}
_lock = threading.Lock()


def _forget_children() -> None:
    """After a fork the children belong to the parent."""
    global _lock  # noqa: PLW0603 - a lock held by another thread at the fork would stay locked for ever
    _lock = threading.Lock()
    _idle.clear()


os.register_at_fork(after_in_child=_forget_children)


def _take(module: str) -> _Child:
    with _lock:
        idle = _idle.get(module, [])
        while idle:
            child = idle.pop()
            if child.is_alive():
                return child
            child.kill()
    return _Child()


def _give_back(module: str, child: _Child) -> None:
    with _lock:
        idle = _idle.setdefault(module, [])
        if len(idle) < _IDLE_CHILDREN and child.calls < _CALLS_PER_CHILD:
            idle.append(child)
            return
    child.kill()


@atexit.register
def close_idle_children() -> None:
    """End the warm children of this process; the next call starts a fresh one."""
    with _lock:
        children = [child for idle in _idle.values() for child in idle]
        _idle.clear()
    for child in children:
        child.kill()


def run_in_child(
    function_address: str,
    *args: Any,
    timeout_seconds: float,
    memory_bytes: int,
    on_progress: ProgressCallback | None = None,
    on_wait: WaitCallback | None = None,
) -> Any:
    """Call `package.module:function` with `args` in a child process and return what it returns.

    Arguments, progress and result travel as JSON, never as pickles: a parser taken over by a hostile file
    must not reach into this process. Arrays go through files. `memory_bytes` bounds what the call may
    allocate on top of the loaded program (Linux: RLIMIT_DATA; elsewhere not enforced). With `on_progress`
    the function gets a keyword argument of that name and every value that it passes arrives here.
    `on_wait` is called a few times a second while nothing arrives.

    Any exception raised meanwhile in this thread, by `on_progress` or `on_wait` too, kills the child.
    Raises the errors of app.errors that the function raises, ChildTimeoutError, ChildMemoryError,
    ChildCrashedError.
    """
    module = function_address.partition(":")[0]
    child = _take(module)
    clean = False
    try:
        child.ask(
            {
                "address": function_address,
                "args": args,
                "memory_bytes": memory_bytes,
                "alarm_seconds": timeout_seconds + _GRACE_SECONDS,
                "progress": on_progress is not None,
            }
        )
        frame = _last_frame(child, function_address, timeout_seconds, on_progress, on_wait)
        clean = frame["kind"] == "result" or frame.get("error") != "MemoryError"
    finally:
        if clean:
            _give_back(module, child)
        else:
            child.kill()
    if frame["kind"] == "error":
        raise _rebuild(frame, function_address, memory_bytes)
    return frame["value"]


def _last_frame(
    child: _Child,
    address: str,
    timeout_seconds: float,
    on_progress: ProgressCallback | None,
    on_wait: WaitCallback | None,
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_seconds
    while True:
        frame = child.answers(deadline, address, timeout_seconds, on_wait)
        if frame["kind"] != "progress":
            return frame
        if on_progress is not None:
            on_progress(frame["value"])


def _rebuild(frame: dict[str, Any], address: str, memory_bytes: int) -> ExplorerError:
    if frame["error"] == "MemoryError":
        return ChildMemoryError(f"{address} needs more than {memory_bytes // 2**20} MiB of memory")
    known = getattr(errors, frame["error"], None)
    if isinstance(known, type) and issubclass(known, ExplorerError):
        return known(frame["message"], field=frame["field"])
    return ChildCrashedError(f"{address} failed: {frame['error']}: {frame['message']}")
