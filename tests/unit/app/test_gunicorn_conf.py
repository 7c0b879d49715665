"""Several processes of gunicorn: the connections of their pod are those of all together."""

from __future__ import annotations

import runpy
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
