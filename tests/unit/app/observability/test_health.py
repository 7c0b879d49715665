"""Probes tell the truth in time, also when a server hangs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Literal

from app.observability.health import CheckResult, HealthChecks, HealthServer, Steady


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(ready: Callable[[], bool], **checks: Callable[[], object]) -> Iterator[int]:
    port = free_port()
    server = HealthServer("127.0.0.1", port, ready=ready, checks=checks, timeout_seconds=0.3)
    assert server.start()
    yield port
    server.stop()


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def fails() -> None:
    raise ConnectionError("cannot reach postgresql://u:hunter22@db")


def test_checks_run_side_by_side_and_say_what_failed():
    both_run = threading.Barrier(2)

    def meets() -> None:
        both_run.wait(timeout=30)

    results = HealthChecks({"one": meets, "other": meets, "bad": fails}, 30).run()
    assert [results[name].status for name in ("one", "other", "bad")] == ["up", "up", "down"]
    assert "ConnectionError" in str(results["bad"].error)
    assert "hunter22" not in str(results["bad"].error)


def test_those_who_ask_while_a_check_runs_get_its_answer():
    began, release = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        release.wait(30)

    checks = HealthChecks({"postgres": slow}, 30)
    with ThreadPoolExecutor(6) as people:
        first = people.submit(checks.run)
        assert began.wait(30)
        others = [people.submit(checks.run) for _ in range(5)]
        wait(others, timeout=0.2)  # so that they have come; who has not is told the same
        release.set()
        assert {each.result()["postgres"].status for each in (first, *others)} == {"up"}


def test_one_bad_answer_counts_once_however_many_asked_for_it():
    steady, bad = Steady(), {"s3": CheckResult("down", 1.0)}
    assert not steady.judge({"s3": CheckResult("up", 1.0)})
    assert [steady.judge(bad) for _ in range(6)] == [frozenset()] * 6
    assert steady.judge({"s3": CheckResult("down", 1.0)}) == {"s3"}


def test_a_check_that_hangs_is_down_in_time_and_not_started_twice():
    release, starts = threading.Event(), []

    def hangs() -> None:
        starts.append(1)
        release.wait(5)

    checks = HealthChecks({"hangs": hangs, "fine": lambda: None}, 0.2)
    for _ in range(3):
        results = checks.run()
        assert (results["hangs"].status, results["fine"].status) == ("down", "up")
    assert len(starts) == 1
    release.set()
    time.sleep(0.1)
    assert checks.run()["hangs"].status == "up"


def test_a_worker_is_alive_before_it_is_ready():
    warm = threading.Event()
    with serving(warm.is_set, postgres=lambda: None) as port:
        assert get(port, "/health")[0] == 200
        assert get(port, "/ready")[0] == 503
        warm.set()
        status, body = get(port, "/ready?x=1")
    assert status == 200
    assert json.loads(body)["checks"]["postgres"]["status"] == "up"


def test_one_server_away_means_not_ready():
    with serving(lambda: True, postgres=lambda: None, nats=fails) as port:
        status, body = get(port, "/ready")
    assert status == 503
    assert json.loads(body)["checks"]["nats"]["status"] == "down"


def test_one_bad_answer_does_not_turn_a_part_down_and_one_good_one_not_up():
    def judge(steady: Steady, *answers: Literal["up", "down"]) -> list[bool]:
        return [not steady.judge({"s3": CheckResult(one, 1.0)}) for one in answers]

    assert judge(Steady(), "down", "up", "up") == [False, False, True]
    assert judge(Steady(), "up", "down", "up", "down", "down", "up", "down", "up", "up") == [
        True, True, True, True, False, False, False, False, True
    ]  # fmt: skip


def test_metrics_are_served_and_other_paths_are_not():
    with serving(lambda: True) as port:
        assert "worker_jobs_total" in get(port, "/metrics")[1]
        assert get(port, "/../etc/passwd")[0] == 404


def test_port_nought_is_off_and_a_taken_port_is_survived():
    assert not HealthServer("127.0.0.1", 0, ready=lambda: True, checks={}).start()
    assert not HealthServer("127.0.0.1", None, ready=lambda: True, checks={}).start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        assert not HealthServer("127.0.0.1", port, ready=lambda: True, checks={}).start()


def test_a_client_that_says_nothing_does_not_block_the_others():
    with serving(lambda: True) as port, socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/health")[0] == 200
