from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from app.errors import JobCancelledError, UnreadableFileError
from app.pipeline import sandbox
from app.pipeline.sandbox import (
    ChildCrashedError,
    ChildMemoryError,
    ChildTimeoutError,
    close_idle_children,
    run_in_child,
)

FUNCTIONS = "tests.unit.app.pipeline.sandboxed"
MEBIBYTE = 2**20


@pytest.fixture(autouse=True, scope="module")
def _no_children_left():
    yield
    close_idle_children()


def call(
    name: str,
    *args: Any,
    timeout_seconds: float = 20.0,
    memory_bytes: int = 256 * MEBIBYTE,
    **keywords: Any,
) -> Any:
    return run_in_child(
        f"{FUNCTIONS}:{name}", *args, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes, **keywords
    )


def test_a_result_comes_back_from_another_process():
    assert call("add", 2, 3) == 5
    assert call("pid") != os.getpid()


def test_a_warm_child_serves_the_next_call():
    assert call("pid") == call("pid")


def test_settings_and_keys_of_the_parent_are_not_inherited(monkeypatch):
    monkeypatch.setenv("ENCRYPTION_MASTER_KEY", "secret")
    close_idle_children()
    assert "ENCRYPTION_MASTER_KEY" not in call("environment")


def test_a_call_over_its_time_limit_is_killed_and_names_the_limit():
    started = time.monotonic()
    with pytest.raises(ChildTimeoutError, match=r"did not end within 0\.5 seconds"):
        call("sleep", 30, timeout_seconds=0.5)
    assert time.monotonic() - started < 25
    assert call("add", 1, 1) == 2


def test_a_call_over_its_memory_limit_fails_alone():
    with pytest.raises(ChildMemoryError, match="more than 64 MiB"):
        call("allocate", 512 * MEBIBYTE, memory_bytes=64 * MEBIBYTE)
    assert call("allocate", 16 * MEBIBYTE, memory_bytes=64 * MEBIBYTE) == 16 * MEBIBYTE


def test_a_crash_of_native_code_is_an_error_that_names_the_signal():
    with pytest.raises(ChildCrashedError, match="SIGABRT"):
        call("crash")


def test_our_own_errors_travel_back_with_their_field():
    with pytest.raises(UnreadableFileError, match="page 3 is torn") as caught:
        call("refuse")
    assert caught.value.field == "file"


def test_foreign_errors_arrive_with_their_name():
    with pytest.raises(ChildCrashedError, match="RuntimeError: odd"):
        call("break_rules")


def test_a_result_that_is_no_json_is_refused_by_the_child():
    with pytest.raises(ChildCrashedError, match="TypeError"):
        call("return_object")


def test_progress_arrives_in_order():
    seen: list[dict[str, int]] = []
    assert call("count", 3, on_progress=seen.append) == 3
    assert seen == [{"done": 0}, {"done": 1}, {"done": 2}]


def test_an_error_in_the_progress_callback_kills_the_child():
    def cancel(_value):
        raise JobCancelledError("asked to stop")

    before = call("pid")
    with pytest.raises(JobCancelledError):
        call("count", 3, on_progress=cancel)
    assert call("pid") != before


def test_threads_use_different_children_at_the_same_time():
    pids: list[int] = []
    barrier = threading.Barrier(2)

    def work():
        barrier.wait()
        call("sleep", 0.3)
        pids.append(call("pid"))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 2
    assert len(sandbox._idle[FUNCTIONS]) <= 2
