"""The child's side of app.pipeline.sandbox: takes calls, sets limits, answers in JSON frames."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_PARENT_CHECK_SECONDS = 2.0
_MESSAGE_CHARACTERS = 2000


def serve(requests_fd: int, answers_fd: int, parent_pid: int) -> None:
    """Answer calls until the parent closes the pipe or is gone."""
    # Ctrl-C reaches the whole process group; ending is the parent's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(parent_pid,), daemon=True).start()
    requests = Connection(requests_fd, writable=False)
    answers = Connection(answers_fd, readable=False)
    while True:
        try:
            request = json.loads(requests.recv_bytes())
        except (EOFError, OSError):
            return
        frame = _answer(request, answers)
        try:
            answers.send_bytes(json.dumps(frame).encode())
        except (MemoryError, TypeError, ValueError) as error:  # a result that is too big or no JSON
            answers.send_bytes(json.dumps(_error_frame(error)).encode())


def _end_with_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


def _answer(request: dict[str, Any], answers: Connection) -> dict[str, Any]:
    def report(value: Any) -> None:
        answers.send_bytes(json.dumps({"kind": "progress", "value": value}).encode())

    module, _, name = request["address"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        keywords = {"on_progress": report} if request["progress"] else {}
        with _limits(request["memory_bytes"], request["alarm_seconds"]):
            return {"kind": "result", "value": function(*request["args"], **keywords)}
    except Exception as error:  # noqa: BLE001 - every failure is the parent's to judge
        return _error_frame(error)


def _error_frame(error: BaseException) -> dict[str, Any]:
    return {
        "kind": "error",
        "error": type(error).__name__,
        "message": str(error)[:_MESSAGE_CHARACTERS],
        "field": getattr(error, "field", None),
    }


@contextlib.contextmanager
def _limits(memory_bytes: int, alarm_seconds: float) -> Iterator[None]:
    """Bound the memory of a call, and have the kernel end it should the parent no longer watch."""
    signal.setitimer(signal.ITIMER_REAL, alarm_seconds)  # SIGALRM's default action ends the process
    try:
        with _data_limit(memory_bytes):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _data_limit(memory_bytes: int) -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _data_bytes() -> int:
    """Private writable memory of this process, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
