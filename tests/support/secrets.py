"""Rows with secrets by the thousand, people who read and write them, and the command that rotates them."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sqlalchemy import Table, func, insert, select

from app.security.crypto import SecretBox, sealed_with
from app.services import provider_rows
from app.storage.postgres.session import Database
from app.storage.postgres.tables import EmbedderRow, Owner

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = "0d" * 32, "ee" * 32
_PER_STATEMENT = 2000
_TABLE = cast("Table", EmbedderRow.__table__)


def fill(database: Database, number: int, *, sealed_by: str = OLD) -> None:
    """Write embedders 1 to `number`, each with the key `sk-<id>`."""
    box = SecretBox(sealed_by)
    with database.transaction() as session:
        session.merge(Owner(owner_id="ada", display_name="Ada"))
    for start in range(1, number + 1, _PER_STATEMENT):
        rows = [_row(key, box) for key in range(start, min(start + _PER_STATEMENT, number + 1))]
        with database.transaction() as session:
            session.execute(insert(_TABLE), rows)  # past the audit log


def _row(key: int, box: SecretBox) -> dict[str, object]:
    return {
        "embedder_id": key,
        "owner_id": "ada",
        "name": "e",
        "provider": "openai",
        "model": "m",
        "batch_size": 8,
        "dimensions": 3,
        "max_input_tokens": 256,
        "truncate_strategy": "split",
        "api_key_sealed": box.encrypt(f"sk-{key}", table="embedders", column="api_key", row=key, owner="ada"),
    }


def left(database: Database, key_id: str | None) -> int:
    """How many secrets another key than this one seals."""
    assert key_id
    other = ~EmbedderRow.api_key_sealed.startswith(sealed_with(key_id), autoescape=True)
    with database.transaction() as session:
        return session.scalar(select(func.count()).where(other)) or 0


def rotating(url: str, *options: str, active: str = NEW, retired: str = OLD) -> subprocess.Popen[str]:
    """`flask secrets rotate` in a process of its own."""
    environment = {
        "PATH": str(Path(sys.executable).parent),
        "DATABASE_URL": url,
        "ENCRYPTION_MASTER_KEY": active,
        "ENCRYPTION_RETIRED_KEYS": retired,
        "LOG_FORMAT": "text",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "secrets", "rotate", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Traffic:
    """What readers and writers saw. `written` is the last key that was stored in a row, by its id."""

    reads: int = 0
    failures: list[str] = field(default_factory=list)
    written: dict[int, str] = field(default_factory=dict)
    read_seconds: list[float] = field(default_factory=list)
    write_seconds: list[float] = field(default_factory=list)


@contextmanager
def traffic(
    database: Database, box: SecretBox, number: int, *, share: tuple[int, int] = (0, 1), into: Traffic
) -> Iterator[Traffic]:
    """For the block, a reader of all rows and a writer of those that leave `share[0]` divided by `share[1]`.

    A writer seals as a process with `box` does.
    """
    stopping = threading.Event()

    def work(step: object) -> None:
        while not stopping.wait(0.001):
            try:
                step()  # type: ignore[operator]
            except Exception as error:  # noqa: BLE001 that is what is counted
                into.failures.append(repr(error))

    def read() -> None:
        began = time.perf_counter()
        with database.transaction() as session:
            row = session.get_one(EmbedderRow, random.randint(1, number))
            key = provider_rows.unseal(row, box)
        into.read_seconds.append(time.perf_counter() - began)
        assert key is not None
        assert key.startswith(f"sk-{row.embedder_id}")
        into.reads += 1

    def write() -> None:
        key = random.randrange(share[0] or share[1], number + 1, share[1])
        began = time.perf_counter()
        with database.transaction() as session:
            row = session.get_one(EmbedderRow, key, with_for_update=True)
            value = f"sk-{key}-{random.random()}"
            provider_rows.seal(row, value, box)
        into.write_seconds.append(time.perf_counter() - began)
        into.written[key] = value

    threads = [threading.Thread(target=work, args=(step,)) for step in (read, write)]
    for thread in threads:
        thread.start()
    try:
        yield into
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
