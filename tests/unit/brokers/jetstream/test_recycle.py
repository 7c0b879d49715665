"""When a command line is asked to replace its workers."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from brokers import MaxTasksPerChild


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """What was sent to whom, instead of sending it."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return sent


def process(max_tasks: int) -> MaxTasksPerChild:
    middleware = MaxTasksPerChild(max_tasks)
    middleware.after_process_boot(None)
    return middleware


def run(middleware: MaxTasksPerChild, times: int) -> None:
    for _ in range(times):
        middleware.after_process_message(None, None, result=None, exception=None)


def test_after_so_many_runs_of_all_its_threads_and_not_before(asked: list[tuple[int, int]]) -> None:
    middleware = process(100)
    threads = [threading.Thread(target=run, args=(middleware, 33)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == []
    run(middleware, 50)
    assert asked == [(os.getppid(), signal.SIGHUP)]


def test_of_several_processes_the_first_one_asks_and_their_successors_again(
    asked: list[tuple[int, int]],
) -> None:
    first, second = process(2), process(2)
    run(first, 2)
    run(second, 2)
    assert len(asked) == 1
    third, fourth = process(2), process(2)
    run(fourth, 2)
    run(third, 2)
    assert len(asked) == 2


def test_a_worker_without_a_command_line_asks_nobody(asked: list[tuple[int, int]]) -> None:
    run(MaxTasksPerChild(1), 5)
    assert asked == []


@pytest.mark.parametrize("max_tasks", [0, -1])
def test_at_least_one(max_tasks: Any) -> None:
    with pytest.raises(ValueError, match="max_tasks must be at least 1"):
        MaxTasksPerChild(max_tasks)
