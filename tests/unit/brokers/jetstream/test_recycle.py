"""When a command line is asked to replace its workers."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import MaxTasksPerChild
from brokers.jetstream import recycle
from tests.integration.broker.workers import wait_until

Asked = list[tuple[int, int]]
Process = Callable[[int], MaxTasksPerChild]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What was sent to whom, instead of sending it."""
    sent: Asked = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return sent


@pytest.fixture
def process(asked: Asked) -> Iterator[Process]:
    """Makes processes of one command line; all are told to stop at the end."""
    made: list[MaxTasksPerChild] = []

    def make(max_tasks: int) -> MaxTasksPerChild:
        made.append(MaxTasksPerChild(max_tasks))
        made[-1].after_process_boot(None)
        return made[-1]

    yield make
    for middleware in made:
        stop(middleware)
    wait_until(lambda: not any(thread.name == "recycle" for thread in threading.enumerate()))


def run(middleware: MaxTasksPerChild, times: int) -> None:
    for _ in range(times):
        middleware.after_process_message(None, None, result=None, exception=None)


def stop(middleware: MaxTasksPerChild) -> None:
    middleware.before_worker_shutdown(None, None)


def test_after_so_many_runs_of_all_its_threads_and_not_before(process: Process, asked: Asked) -> None:
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
    process: Process, asked: Asked
) -> None:
    first, second = process(2), process(2)
    run(first, 2)
    run(second, 2)
    assert len(asked) == 1
    third, fourth = process(2), process(2)
    run(fourth, 2)
    run(third, 2)
    assert len(asked) == 2


def test_a_request_that_came_to_nothing_is_made_again_until_the_process_is_told_to_stop(
    process: Process, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recycle, "_PATIENCE_SECONDS", 0.01)
    left_word, second = process(1), process(1)
    monkeypatch.setattr(os, "kill", lambda *_: None)  # it was killed before it could
    run(left_word, 1)
    stop(left_word)
    monkeypatch.setattr(os, "kill", lambda pid, number: asked.append((pid, number)))
    run(second, 1)
    wait_until(lambda: len(asked) >= 2)
    stop(second)


def test_a_process_that_is_being_stopped_anyway_asks_nobody(process: Process, asked: Asked) -> None:
    middleware = process(2)
    run(middleware, 1)
    stop(middleware)
    run(middleware, 1)
    assert asked == []


def test_processes_of_another_container_that_shares_the_folder_ask_for_themselves(
    process: Process, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = process(1), process(1)
    run(here, 1)
    monkeypatch.setattr(recycle, "_process_space", lambda: "another")
    run(there, 1)
    assert len(asked) == 2


def test_a_strangers_file_says_nothing_and_a_folder_without_room_is_told_of(
    process: Process,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run(process(1), 1)
    (file,) = tmp_path.iterdir()
    file.write_text("anything")
    run(process(1), 1)
    assert len(asked) == 2
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    with caplog.at_level(logging.WARNING):
        run(process(1), 1)
    assert "is not replaced" in caplog.text
    assert len(asked) == 2


def test_an_orphan_asks_nobody(process: Process, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    middleware = process(1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    run(middleware, 1)
    assert asked == []


def ask_from_a_child(told: Any) -> None:
    sent: Asked = []
    os.kill = lambda pid, number: sent.append((pid, number))  # a process of its own
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        middleware = MaxTasksPerChild(1)
        middleware.after_process_boot(None)
        run(middleware, 1)
        stop(middleware)
    told.put(sent)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_command_line_is_asked_also_where_a_server_forks_for_it(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    told = context.SimpleQueue()
    child = context.Process(target=ask_from_a_child, args=(told,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert told.get() == [(os.getpid(), signal.SIGHUP)]


def test_a_worker_without_a_command_line_asks_nobody(asked: Asked) -> None:
    run(MaxTasksPerChild(1), 5)
    assert asked == []


@pytest.mark.parametrize("max_tasks", [0, -1])
def test_at_least_one(max_tasks: Any) -> None:
    with pytest.raises(ValueError, match="max_tasks must be at least 1"):
        MaxTasksPerChild(max_tasks)
