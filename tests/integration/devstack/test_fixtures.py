from __future__ import annotations

import psycopg2
import pytest

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
