"""Functions that the sandbox's tests run in a child process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from app.errors import UnreadableFileError


def add(left: int, right: int) -> int:
    return left + right


def pid() -> int:
    return os.getpid()


def environment() -> list[str]:
    return sorted(os.environ)  # noqa: TID251 - what the child sees is the subject


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def allocate(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def crash() -> None:
    os.abort()


def refuse() -> None:
    raise UnreadableFileError("page 3 is torn", field="file")


def break_rules() -> None:
    raise RuntimeError("odd")


def return_object() -> object:
    return object()


def count(limit: int, *, on_progress: Callable[[Any], None]) -> int:
    for number in range(limit):
        on_progress({"done": number})
    return limit
