"""An installation whose servers can lose everything: for the drill of docs/backup.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask

from app import cli
from app.config import Settings
from app.container import Container, build
from app.factory import create_app
from devstack.product import ROOT
from devstack.services.postgres import programs
from devstack.stack import Stack

SERVERS = frozenset({"nats", "postgres", "s3", "vector"})
SETTINGS = {
    "ENCRYPTION_MASTER_KEY": "5e" * 32,
    "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1",
}
_PAGE = ROOT / "docs" / "backup.md"
_OURS = "flask --app wsgi "


def commands(heading: str) -> list[str]:
    """The blocks of commands under a heading of the page."""
    found = re.search(rf"(?ms)^## {heading}$(.*?)(?=^## |\Z)", _PAGE.read_text())
    assert found, heading
    return re.findall(r"(?ms)^```bash\n(.*?)^```$", found[1])


@dataclass
class Site:
    """Servers whose data lies in `folder`, with a place for backups beside it."""

    folder: Path
    stack: Stack
    bucket_copy: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.postgres_data = self.folder / "postgres"
        self.backup = self.folder / "backup"
        self.backup.mkdir()
        owner = self.postgres_data.stat()
        self._postgres_user = owner.st_uid, owner.st_gid

    @property
    def environment(self) -> dict[str, str]:
        """The product's settings."""
        return {**self.stack.environment, **SETTINGS}

    @contextmanager
    def opened(self) -> Iterator[tuple[Container, Flask]]:
        """The product in this process."""
        container = build(Settings.from_env(self.environment))
        try:
            app = create_app(container)
            cli.register(app, container)
            yield container, app
        finally:
            container.close()
            container.broker.close()

    def run(self, script: str, **more: str) -> str:
        """What a block of commands says; fails where it fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=self._variables() | more,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _variables(self) -> dict[str, str]:
        url = urlsplit(self.stack.environment["DATABASE_URL"])
        postgres = {
            "PGHOST": str(url.hostname), "PGPORT": str(url.port), "PGUSER": str(url.username),
            "PGPASSWORD": str(url.password), "PGDATABASE": url.path[1:],
        }  # fmt: skip
        places = {"BACKUP": str(self.backup), "PGDATA": str(self.postgres_data)}
        return {**postgres, **places, "PATH": f"{programs()}:{os.defpath}"}

    def lose_everything(self, container: Container) -> None:
        """Empty the bucket, kill the other servers and delete what they kept."""
        container.blobs.delete([blob.key for blob in container.blobs.list("")])
        for server in ("postgres", "nats", "vector"):
            self.stack.kill(server)
            shutil.rmtree(self.folder / server)

    def give_to_postgres(self, folder: Path) -> None:
        """Where the supervisor is root, Postgres runs as somebody else, and what a command made is root's."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *self._postgres_user)

    def copy_bucket(self, container: Container) -> None:
        """What `aws s3 sync` without --delete does."""
        for blob in container.blobs.list(""):
            self.bucket_copy[blob.key] = container.blobs.get_bytes(blob.key)

    def bring_bucket_back(self, container: Container) -> None:
        """The other way round."""
        for key, content in self.bucket_copy.items():
            container.blobs.put_bytes(key, content, media_type="text/plain")


def flask(app: Flask, block: str) -> str:
    """What the commands of ours in a block say; in this process, where they need not be started."""
    said = ""
    for line in block.splitlines():
        assert line.startswith(_OURS), line
        done = app.test_cli_runner().invoke(args=shlex.split(line.removeprefix(_OURS)))
        assert done.exit_code == 0, done.output
        said += done.output
    return said


def wait_for(what: str, ready: Callable[[], object]) -> None:
    """Return once `ready` says something true."""
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
