"""The pool of connections does what its five settings say (acquire and idle time: test_session)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from app.storage.postgres.session import Database, DatabaseOptions

Opener = Callable[..., Database]


@pytest.fixture
def opener(migrated_url: str) -> Iterator[Opener]:
    """Opens databases with settings of one's own."""
    opened: list[Database] = []

    def open_one(**settings: int) -> Database:
        url = migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        opened.append(Database(DatabaseOptions(url=url, **settings)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def backend(database: Database, barrier: Barrier | None = None) -> int:
    with database.transaction() as session:
        if barrier is not None:
            barrier.wait(10)  # until all have one
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def all_at_once(database: Database, number: int) -> set[int]:
    barrier = Barrier(number)
    with ThreadPoolExecutor(number) as threads:
        return set(threads.map(lambda _: backend(database, barrier), range(number)))


def open_connections(database: Database) -> int:
    ours = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    with database.transaction() as session:
        return int(session.execute(text(ours)).scalar_one())


def test_connections_stay_for_the_next_crowd(opener: Opener):
    database = opener(min_connections=2, max_connections=5)
    first = all_at_once(database, 5)
    assert len(first) == 5
    assert all_at_once(database, 5) == first
    assert open_connections(database) == 5


def test_the_fewest_connections_stay_open_and_the_rest_is_given_back(opener: Opener):
    database = opener(min_connections=2, max_connections=5, idle_timeout_seconds=1)
    assert len(all_at_once(database, 5)) == 5
    deadline = time.monotonic() + 30
    while open_connections(database) > 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert open_connections(database) == 2
    assert len(all_at_once(database, 5)) == 5  # there is room for as many as before


def test_a_connection_is_replaced_after_its_lifetime(opener: Opener, monkeypatch: pytest.MonkeyPatch):
    database = opener(min_connections=1, max_connections=1, max_lifetime_seconds=1800)
    first = backend(database)
    assert backend(database) == first
    later = SimpleNamespace(time=lambda: time.time() + 1801)
    monkeypatch.setattr("sqlalchemy.pool.base.time", later)
    assert backend(database) != first
