"""Faults on the servers, and on the wires to them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import cast

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from tests.chaos.proxy import Mode
from tests.chaos.world import ImpossibleError, World, opened, until

_AWAY_SECONDS = 3.0
_BAD_SECONDS = 5.0
_REBUILT_WITHIN_SECONDS = 10.0
_INDEXES = """SELECT collection_name FROM embedded_datasets d WHERE EXISTS (
    SELECT FROM item_embeddings e WHERE e.embedded_dataset_id = d.embedded_dataset_id AND state = 'succeeded')
    ORDER BY embedded_dataset_id"""
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"  # noqa: E501
_READ_ONLY = "ALTER DATABASE explorer SET default_transaction_read_only = on"
_WRITABLE = "ALTER DATABASE explorer RESET default_transaction_read_only"


def kill(world: World, target: str) -> None:
    """F05, F09, F11, F12: kill -9 of a server, some seconds without it, a restart."""
    world.stack.kill(target)
    time.sleep(_AWAY_SECONDS)
    world.stack.restart(target)


def take_all_connections(world: World, _: str) -> None:
    """F09: somebody else holds every connection that Postgres gives."""
    with ExitStack() as held:
        with suppress(psycopg2.OperationalError):
            for _number in range(1000):
                connection = psycopg2.connect(world.environment["DATABASE_URL"], connect_timeout=10)
                held.callback(connection.close)
        time.sleep(_BAD_SECONDS)


def read_only(world: World, _: str) -> None:
    """F09: the database takes no writes, as a standby does; sessions end at both changes, as there."""
    try:
        _alter(world, _READ_ONLY)
        time.sleep(_BAD_SECONDS)
    finally:
        _alter(world, _WRITABLE)


def slow(world: World, target: str) -> None:
    """F10: every answer and every question is late by 200 ms."""
    world.proxies[target].delay_seconds = 0.2
    with _mode(world, target, "slow", seconds=_BAD_SECONDS + 3):
        pass


def drop_index(world: World, _: str) -> None:
    """F11: somebody deletes a vector index; what it held is embedded again without being asked for."""
    names = [name for (name,) in world.rows(_INDEXES)]
    if not names:
        raise ImpossibleError("nothing is embedded yet")
    with opened(world.environment) as container:
        container.vectors.drop(names[0])
    if not until(lambda: _rebuilt(world, names[0]), seconds=_REBUILT_WITHIN_SECONDS, pause=0.5):
        world.notes.append(f"F11: {names[0]} was not there again within {_REBUILT_WITHIN_SECONDS:g} s")


def _rebuilt(world: World, index: str) -> bool:
    world.product.restart_dead()
    with opened(world.environment) as container:
        return container.vectors.exists(index)


def answer_wrong(world: World, target: str) -> None:
    """F12: a server answers with 500, in halves, or late."""
    server, _, mode = target.partition(" ")
    with _mode(world, server, cast("Mode", mode), seconds=_BAD_SECONDS):
        pass


def black_hole(world: World, target: str) -> None:
    """F16: connections stay open and nothing arrives; afterwards everything does."""
    with _mode(world, target, "hole", seconds=_BAD_SECONDS + 3):
        pass


def hurt_tika(world: World, target: str) -> None:
    """F14: Tika is killed, or takes requests and never answers."""
    if target == "killed":
        kill(world, "tika")
        return
    world.stack.kill("tika", signal.SIGSTOP)
    try:
        time.sleep(_BAD_SECONDS)
    finally:
        world.stack.kill("tika", signal.SIGCONT)


def fill_disk(world: World, target: str) -> None:
    """F17: the server's disk is full; afterwards it has room, and what died is started again.

    NATS is restarted in any case: a stream that could not be written stays so, though the server is healthy.
    """
    if target not in world.disks:
        raise ImpossibleError("mounting a small disk needs root on Linux")
    filler = world.disks[target] / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(_BAD_SECONDS)
    finally:
        filler.unlink(missing_ok=True)
        if target == "nats":
            world.stack.restart("nats")
            world.lose_streams()
        else:
            world.mend("postgres")
            world.mend("vector")  # it lives on the same disk


def _alter(world: World, statement: str) -> None:
    options = "-c default_transaction_read_only=off"
    connection = psycopg2.connect(world.environment["DATABASE_URL"], options=options)
    connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            cursor.execute(_END_SESSIONS)
    finally:
        connection.close()


@contextmanager
def _mode(world: World, server: str, mode: Mode, *, seconds: float) -> Iterator[None]:
    world.proxies[server].mode = mode
    try:
        time.sleep(seconds)
        yield
    finally:
        world.proxies[server].mode = "pass"
