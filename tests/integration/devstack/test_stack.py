from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from devstack.stack import Stack, StackError, StackOptions
from tests.support.folders import server_folder

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder():
    with server_folder("explorer-devstack-") as made:
        yield made / "data"


def options(folder: Path, *services: str, base_port: int | None = None) -> StackOptions:
    return StackOptions(folder, base_port=base_port, durable=False, services=frozenset(services))


def query(url: str, statement: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


@contextmanager
def cli(*words: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "devstack", *words]
    pipe, out = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(argv, cwd=REPOSITORY, stdout=pipe, stderr=out, text=True) as process:
        yield process


def output_of(*words: str) -> tuple[int, str]:
    with cli(*words) as process:
        return process.wait(40), process.communicate()[0]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def read_until(process: subprocess.Popen[str], word: str) -> str:
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"{word!r} never came; got:\n{seen}")


def test_the_whole_stack_names_every_setting_that_the_product_needs(stack_env):
    assert set(stack_env) == {
        "DATABASE_URL",
        "NATS_URL",
        "NATS_MONITORING_URL",
        "QDRANT_URL",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "S3_BUCKET_NAME",
        "S3_FORCE_PATH_STYLE",
        "TIKA_SERVER_ENDPOINT",
    }


def test_every_port_listens_on_loopback_only(stack):
    listening = []
    for name in ("nats", "postgres", "s3", "vector", "tika"):
        process = psutil.Process(stack.pid(name))
        for each in (process, *process.children(recursive=True)):
            listening += [c.laddr.ip for c in each.net_connections() if c.status == psutil.CONN_LISTEN]
    assert len(listening) > 5
    assert set(listening) == {"127.0.0.1"}


def test_postgres_takes_two_hundred_connections_and_no_wrong_password(stack_env):
    url = stack_env["DATABASE_URL"]
    connections = [psycopg2.connect(url) for _ in range(200)]
    for connection in connections:
        connection.close()
    wrong = url.replace(url.split(":")[2].split("@")[0], "guess")
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(wrong)


def test_a_second_start_finds_ports_passwords_and_data(folder):
    with Stack(options(folder, "postgres", "nats")) as first:
        before = first.environment
        query(before["DATABASE_URL"], "CREATE TABLE kept (n int)")
    with Stack(options(folder, "postgres", "nats")) as second:
        assert second.environment == before
        assert query(before["DATABASE_URL"], "SELECT count(*) FROM kept") == (0,)


def test_taken_ports_are_left_to_their_owner(folder):
    with Stack(options(folder, "nats")) as first:
        port = int(first.environment["NATS_URL"].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        with Stack(options(folder, "nats")) as second:
            assert second.environment["NATS_URL"] != f"nats://127.0.0.1:{port}"
        with pytest.raises(StackError, match=str(port)):
            Stack(options(folder, "nats", base_port=port)).start()


def test_a_held_folder_is_refused_with_the_way_out(folder):
    with Stack(options(folder, "nats")), pytest.raises(StackError, match=f"pid {os.getpid()}.*down --data"):
        Stack(options(folder, "nats")).start()


def test_faults_can_be_made_and_mended_without_moving(folder):
    with Stack(options(folder, "postgres", "nats")) as stack:
        url = stack.environment["DATABASE_URL"]
        query(url, "CREATE TABLE kept (n int)")
        stack.kill("postgres", signal.SIGKILL)
        assert not stack.alive("postgres")
        assert stack.alive("nats")
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)

        stack.restart("postgres")

        assert query(url, "SELECT count(*) FROM kept") == (0,)


def test_a_server_that_cannot_start_shows_the_end_of_its_log_and_nothing_is_left(folder):
    before = children()
    folder.mkdir()
    (folder / "nats").write_text("a file where the server wants a folder")
    stack = Stack(options(folder, "postgres", "nats"))
    with pytest.raises(StackError, match="nats"):
        stack.start()
    assert children() == before

    (folder / "nats").unlink()
    (folder / "postgres" / "postgresql.conf").write_text("nonsense = here\n")
    with pytest.raises(StackError, match=r"(?s)postgres ended while starting.*nonsense"):
        stack.start()
    assert children() == before


def test_postgres_runs_where_only_the_owner_may_look(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with Stack(options(closed / "data", "postgres")) as stack:
        assert query(stack.environment["DATABASE_URL"], "SELECT 1") == (1,)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_servers_end_with_a_supervisor_that_is_killed(folder, tmp_path):
    with cli("up", "--data", str(folder), "--only", "nats,postgres,tika,vector") as process:
        read_until(process, "ready")
        servers = psutil.Process(process.pid).children(recursive=True)
        process.kill()

    _, alive = psutil.wait_procs(servers, timeout=10)

    assert len(servers) >= 6
    assert alive == []
    with Stack(options(folder, "postgres")) as stack:
        assert query(stack.environment["DATABASE_URL"], "SELECT 1") == (1,)


def test_the_command_line_goes_up_down_and_forgets(folder, tmp_path):
    env_file = tmp_path / "settings" / "env"
    with cli("up", "--data", str(folder), "--only", "nats", "--env-file", str(env_file)) as process:
        output = read_until(process, "ready")
        assert set(env_file.read_text().splitlines()) <= set(output.splitlines())
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600

        status, words = output_of("reset", "--data", str(folder))
        assert (status, "in use" in words) == (1, True)

        assert "stopped" in output_of("down", "--data", str(folder))[1]
        assert process.wait(40) == 0

    assert output_of("reset", "--data", str(folder))[0] == 0
    assert not folder.exists()


def test_reset_spares_a_folder_that_is_not_ours(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "not deleted" in output_of("reset", "--data", str(tmp_path))[1]
    assert (tmp_path / "thesis.txt").exists()


def test_a_server_that_dies_in_the_foreground_comes_back(folder):
    with cli("up", "--data", str(folder), "--only", "nats") as process:
        read_until(process, "ready")
        (server,) = psutil.Process(process.pid).children()
        server.kill()
        read_until(process, "nats is up")
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0


def test_two_supervisors_start_at_once(tmp_path):
    began = time.monotonic()
    with (
        Stack(options(tmp_path / "one", "nats", "s3")) as one,
        Stack(options(tmp_path / "two", "nats", "s3")) as two,
    ):
        assert set(one.environment.values()) & set(two.environment.values()) <= {
            "us-east-1",
            "semantic-explorer",
            "true",
        }
    assert time.monotonic() - began < 60
