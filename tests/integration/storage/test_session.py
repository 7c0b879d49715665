from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, text

from app.errors import UnavailableError
from app.storage.postgres import session as session_module
from app.storage.postgres.schema import Schema
from app.storage.postgres.session import Database, DatabaseOptions, after_commit


@pytest.fixture
def small(migrated_url: str) -> Iterator[Database]:
    """One connection, little patience."""
    opened = Database(
        DatabaseOptions(
            url=migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1),
            max_connections=1,
            acquire_timeout_seconds=1,
            statement_timeout_seconds=1,
            idle_in_transaction_timeout_seconds=2,
        )
    )
    yield opened
    opened.close()


def test_no_free_connection_reads_as_unavailable(small: Database):
    with (
        small.transaction() as session,
        pytest.raises(UnavailableError, match="connection"),
        small.transaction() as second,
    ):
        session.execute(text("SELECT 1"))
        second.execute(text("SELECT 1"))


def test_a_statement_over_its_time_reads_as_unavailable(small: Database):
    with pytest.raises(UnavailableError, match="statement timeout"), small.transaction() as session:
        session.execute(text("SELECT pg_sleep(5)"))


def test_a_transaction_that_idled_too_long_reads_as_unavailable(small: Database):
    with pytest.raises(UnavailableError), small.transaction() as session:
        session.execute(text("SELECT 1"))
        time.sleep(2.5)
        session.execute(text("SELECT 1"))
    small.ping()


def test_threads_that_begin_together_share_one_engine(small: Database, monkeypatch: pytest.MonkeyPatch):
    together, build = Barrier(8), session_module._build_engine

    def slow(*given: Any) -> Engine:
        time.sleep(0.05)  # as on a busy machine
        return build(*given)

    def engine(_: int) -> int:
        together.wait()
        return id(small.engine)

    monkeypatch.setattr(session_module, "_build_engine", slow)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(engine, range(8)))) == 1


def test_what_waits_for_the_commit_runs_all_of_it_although_a_part_fails(small: Database):
    ran: list[int] = []

    def fail() -> None:
        raise RuntimeError("a callback of somebody else")

    with small.transaction() as session:
        after_commit(session, fail)
        after_commit(session, lambda: ran.append(1))
    assert ran == [1]


@pytest.mark.parametrize(("timeout_seconds", "replaced"), [(300, False), (0, True)])
def test_a_connection_that_lay_idle_too_long_is_replaced(
    migrated_url: str, timeout_seconds: int, replaced: bool
):
    url = migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)
    database = Database(DatabaseOptions(url=url, idle_timeout_seconds=timeout_seconds))
    backends = []
    for _ in range(2):
        with database.transaction() as session:
            backends.append(session.scalar(text("SELECT pg_backend_pid()")))
    database.close()
    assert (backends[0] != backends[1]) is replaced


def test_a_connection_that_the_server_ended_is_found_out_before_it_is_used(
    small: Database, migrated_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session_module, "_TRUSTED_SECONDS", 0.0)
    with small.transaction() as session:
        backend = session.scalar(text("SELECT pg_backend_pid()"))
    other = Database(DatabaseOptions(url=migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)))
    with other.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})
    other.close()
    with small.transaction() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != backend


def number(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_the_pool_says_how_full_it_is_and_that_somebody_waited_in_vain(small: Database):
    refused = number("database_connection_wait_seconds_count", status="failed")
    small.ping()
    assert number("database_connection_pool_max") == 1
    assert number("database_connection_pool_in_use") == 0
    with small.transaction() as session:
        session.execute(text("SELECT 1"))
        assert number("database_connection_pool_in_use") == 1
        assert number("database_connection_pool_size") == 1
        with pytest.raises(UnavailableError):
            small.ping()
    assert number("database_connection_pool_in_use") == 0
    assert number("database_connection_wait_seconds_count", status="failed") == refused + 1


def at_revision(database: Database, revision: str) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": revision})


def test_an_older_schema_is_not_ready_a_newer_one_is(small: Database):
    Schema(small).check()
    at_revision(small, "0001")
    with pytest.raises(UnavailableError, match=r"0001.*flask migrate"):
        Schema(small).check()
    at_revision(small, "9999")
    Schema(small).check()


def test_a_database_without_tables_says_what_to_do(small: Database):
    with small.transaction() as session:
        session.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(UnavailableError, match="no schema yet: run `flask migrate`"):
        Schema(small).check()


def test_whoever_is_to_be_asked_before_a_transaction_is_asked_before_each(migrated_url: str):
    in_use: list[str] = []
    url = migrated_url.replace("postgresql://", "postgresql+psycopg2://", 1)
    database = Database(DatabaseOptions(url=url), before=lambda: in_use.append(database.engine.pool.status()))
    for _ in range(2):
        database.ping()
    database.close()
    assert len(in_use) == 2
    assert all("checked out connections: 0" in status for status in map(str.lower, in_use))


def test_reading_opens_no_transaction_and_leaves_the_connection_as_it_was(small: Database):
    with small.reading() as connection:
        first, second = (connection.scalar(text("SELECT now()")) for _ in range(2))
    assert first < second  # in a transaction it would stand still
    with pytest.raises(ZeroDivisionError), small.transaction() as session:
        session.execute(text("INSERT INTO owners (owner_id, display_name) VALUES ('gone', 'Gone')"))
        raise ZeroDivisionError
    with small.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM owners WHERE owner_id = 'gone'")) == 0


def test_whoever_is_stopped_while_reading_leaves_no_connection_without_transactions(small: Database):
    with pytest.raises(KeyboardInterrupt), small.reading() as connection:
        driver = connection.connection.dbapi_connection
        raise KeyboardInterrupt
    with small.transaction() as session:
        again = session.connection().connection.dbapi_connection
        assert again is driver
        assert not again.autocommit  # type: ignore[union-attr]


def test_what_fails_while_reading_reads_as_unavailable(small: Database):
    with pytest.raises(UnavailableError, match="statement timeout"), small.reading() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    with small.reading(), pytest.raises(UnavailableError, match="no connection was free"), small.reading():
        pass
    small.ping()
