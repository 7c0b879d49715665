from __future__ import annotations

import subprocess
from uuid import uuid4

import psycopg2
import pytest

from tests.support.folders import server_folder
from tests.support.stack import run_apart


def test_a_database_made_from_a_template_holds_its_tables(databases):
    template = databases.create()
    connection = psycopg2.connect(template)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE fruit (name text)")
    connection.close()

    copy = databases.create(template)

    connection = psycopg2.connect(copy)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM fruit")
        assert cursor.fetchone() == (0,)
    connection.close()
    databases.drop(copy)
    databases.drop(template)


@pytest.mark.parametrize("run", [1, 2])
def test_every_test_has_an_empty_database(database_url, run):
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE only_once (n int)")
    connection.close()


async def _add_stream(url: str) -> int:
    import nats

    connection = await nats.connect(url)
    await connection.jetstream().add_stream(name="LEFT_BY_A_TEST", subjects=["left.>"])
    streams = await connection.jetstream().streams_info()
    await connection.close()
    return len(streams)


@pytest.mark.parametrize("run", [1, 2])
def test_every_test_finds_nats_without_streams(nats_url, run):
    assert run_apart(_add_stream, nats_url) == 1


def test_what_a_killed_run_left_in_memory_is_removed_by_the_next_and_nothing_else():
    prefix = f"explorer-test-{uuid4().hex[:8]}-"
    with subprocess.Popen(["true"]) as gone:
        pass
    with server_folder(prefix) as mine:
        left = mine.with_name(f"{prefix}{gone.pid}-abc")
        left.mkdir()
        with server_folder(prefix) as second:
            assert (mine.exists(), second.exists(), left.exists()) == (True, True, False)
    assert not mine.exists()
