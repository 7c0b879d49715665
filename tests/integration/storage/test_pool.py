"""The pool of connections does what its five settings say (acquire and idle time: test_session)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from app.errors import UnavailableError
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
        session.connection()
        if barrier is not None:
            barrier.wait(30)  # until all have one
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


def wait_for_open(database: Database, number: int) -> None:
    deadline = time.monotonic() + 30
    while open_connections(database) != number and time.monotonic() < deadline:
        time.sleep(0.02)  # Postgres counts one that is being closed
    assert open_connections(database) == number


def test_the_fewest_connections_stay_open_and_the_rest_is_given_back(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
):
    database = opener(min_connections=2, max_connections=5, idle_timeout_seconds=300)
    assert len(all_at_once(database, 5)) == 5
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 301)
    monkeypatch.setattr("app.storage.postgres.pool.time", later)
    wait_for_open(database, 2)


def test_connections_of_a_rush_serve_the_next_one(opener: Opener):
    database = opener(min_connections=2, max_connections=5, idle_timeout_seconds=300)
    first = all_at_once(database, 5)
    assert all_at_once(database, 5) == first


def test_what_is_wanted_all_the_time_stays_and_the_rest_goes(opener: Opener, monkeypatch: pytest.MonkeyPatch):
    database = opener(min_connections=0, max_connections=3, idle_timeout_seconds=300)
    all_at_once(database, 3)
    kept = backend(database)
    for seconds in (200, 400):  # it is in use, the others only lie there
        clock = SimpleNamespace(monotonic=lambda ahead=seconds: time.monotonic() + ahead)
        monkeypatch.setattr("app.storage.postgres.pool.time", clock)
        assert backend(database) == kept
    wait_for_open(database, 1)


def test_a_connection_is_replaced_after_its_lifetime(opener: Opener, monkeypatch: pytest.MonkeyPatch):
    database = opener(min_connections=1, max_connections=1, max_lifetime_seconds=1800)
    first = backend(database)
    assert backend(database) == first
    later = SimpleNamespace(time=lambda: time.time() + 1801)
    monkeypatch.setattr("sqlalchemy.pool.base.time", later)
    assert backend(database) != first


def test_postgres_never_sees_more_connections_than_the_most(opener: Opener):
    database = opener(min_connections=0, max_connections=4, acquire_timeout_seconds=30)
    with ThreadPoolExecutor(16) as threads:
        seen = list(threads.map(lambda _: open_connections(database), range(64)))
    assert 1 < max(seen) <= 4


def test_a_server_without_tls_is_refused_where_tls_is_required(migrated_url: str):
    url = migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)
    mark = "&" if "?" in url else "?"
    database = Database(DatabaseOptions(url=f"{url}{mark}sslmode=require"))
    with pytest.raises(UnavailableError, match="SSL"):
        database.ping()
    database.close()
