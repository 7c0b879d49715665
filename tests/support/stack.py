"""Fixtures: real servers for every test that needs one, and a fresh corner of each server per test.

The servers start once per pytest process (with xdist: one set per worker), on free ports, with data that
is thrown away. A test never cleans up after another: it takes its own database, key prefix, index name.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from devstack.stack import SERVICES, Stack, StackOptions
from tests.support.folders import server_folder

T = TypeVar("T")


class Databases:
    """Makes and drops databases on the test cluster; about 80 ms each."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, template: str | None = None) -> str:
        """Return the URL of a new database, a copy of the database named in the URL `template` if given.

        Nobody may be connected to the template meanwhile.
        """
        name = f"test_{uuid4().hex[:12]}"
        clause = f' TEMPLATE "{_name(template)}"' if template else ""
        # As files: the other way writes every page to the log as well, which takes twice as long.
        self._run(f'CREATE DATABASE "{name}"{clause} STRATEGY FILE_COPY')
        return f"{self._url.rsplit('/', 1)[0]}/{name}"

    def drop(self, url: str) -> None:
        """Drop a database, ending its sessions."""
        self._run(f'DROP DATABASE IF EXISTS "{_name(url)}" WITH (FORCE)')

    def _run(self, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(self._url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def _name(url: str) -> str:
    return url.rsplit("/", 1)[1]


def delete_streams(nats_url: str) -> None:
    """Delete every JetStream stream with its consumers: the queues are as on the first day."""
    run_apart(_delete_streams, nats_url)


def run_apart(function: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
    """Run a coroutine function in a thread: the browser tests keep an event loop in this one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(function(*arguments))).result()


async def _delete_streams(nats_url: str) -> None:
    import nats

    connection = await nats.connect(nats_url)
    try:
        jetstream = connection.jetstream()
        for stream in await jetstream.streams_info():
            if stream.config.name:
                await jetstream.delete_stream(stream.config.name)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Return the running servers; `stack.kill`, `stack.restart` and `stack.alive` make faults."""
    with server_folder("explorer-stack-") as folder, Stack(StackOptions(folder, durable=False)) as servers:
        yield servers


@pytest.fixture
def breakable_stack(stack: Stack) -> Iterator[Stack]:
    """Return the servers for a test that kills, stops or freezes some; afterwards all run again."""
    yield stack
    for service in SERVICES:
        stack.kill(service, signal.SIGCONT)
        if not stack.alive(service):
            stack.restart(service)


@pytest.fixture(scope="session")
def stack_env(stack: Stack) -> dict[str, str]:
    """Return the settings that point the product at the servers (a copy: change it as you like)."""
    return dict(stack.environment)


@pytest.fixture(scope="session")
def databases(stack: Stack) -> Databases:
    """Return the maker of databases, for fixtures that keep a migrated template."""
    return Databases(stack.environment["DATABASE_URL"])


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """Return the URL of an empty database of this test's own."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
def nats_url(stack: Stack) -> str:
    """Return the URL of NATS without any stream."""
    url = stack.environment["NATS_URL"]
    delete_streams(url)
    return url


@pytest.fixture
def key_prefix() -> str:
    """Return a prefix for object keys that no other test uses; ends with a slash."""
    return f"test/{uuid4().hex[:12]}/"


@pytest.fixture
def index_name() -> str:
    """Return a name for a vector index that no other test uses."""
    return f"test_{uuid4().hex[:12]}"
