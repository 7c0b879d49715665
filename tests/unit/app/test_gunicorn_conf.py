"""Several processes of gunicorn share the connections of their pod, and its CPUs where that is asked for."""

from __future__ import annotations

import os
import runpy
from collections import Counter
from types import SimpleNamespace

import pytest

from app.config import Settings
from devstack.product import ROOT


def started(monkeypatch: pytest.MonkeyPatch, processes: int, most: int) -> Settings:
    """What each process reads, once gunicorn has begun with so many."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setenv("DB_MAX_CONNECTIONS", str(most))
    monkeypatch.setenv("DB_MIN_CONNECTIONS", "2")
    hooks = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    hooks["on_starting"](SimpleNamespace(cfg=SimpleNamespace(workers=processes)))
    return Settings.from_env()


@pytest.mark.parametrize(("processes", "most", "fewest"), [(1, 20, 2), (2, 10, 1), (3, 6, 0), (20, 1, 0)])
def test_processes_of_gunicorn_share_the_connections_of_their_pod(
    monkeypatch: pytest.MonkeyPatch, processes: int, most: int, fewest: int
):
    settings = started(monkeypatch, processes, 20)
    assert (settings.db_max_connections, settings.db_min_connections) == (most, fewest)


def test_more_processes_than_connections_do_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(SystemExit):
        started(monkeypatch, 3, 2)
    assert "cannot start: DB_MAX_CONNECTIONS is 2, fewer than the 3 processes" in caplog.text


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """A machine with CPUs 2 to 5 for us; what processes keep to is noted."""
    kept: list[set[int]] = []
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 4, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cpus: kept.append(cpus))
    return kept


def fork(processes: int) -> None:
    """As gunicorn calls the hooks."""
    hooks, server = runpy.run_path(str(ROOT / "gunicorn.conf.py")), SimpleNamespace(WORKERS={})
    for number in range(processes):
        worker = SimpleNamespace()
        hooks["pre_fork"](server, worker)
        server.WORKERS[number] = worker
        hooks["post_fork"](server, worker)


def test_processes_of_gunicorn_keep_to_different_cpus_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, four_cpus: list[set[int]]
):
    monkeypatch.setenv("WEB_CPU_AFFINITY", "true")
    fork(8)
    assert Counter(map(tuple, four_cpus)) == {(2,): 2, (3,): 2, (4,): 2, (5,): 2}


def test_processes_of_gunicorn_go_where_the_system_sends_them_otherwise(four_cpus: list[set[int]]):
    fork(2)
    assert four_cpus == []
