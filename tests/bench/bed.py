"""Where the pipeline's benches run: real servers, the product's processes, and rows put there directly."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.config import Settings
from app.container import Container, build
from app.security.principal import Principal
from devstack.process import Command, Process
from devstack.product import ROOT, Product
from devstack.stack import Stack, StackOptions
from tests.support.app_processes import free_port

_SETTINGS = {"OUTBOUND_ALLOWED_HOSTS": "127.0.0.1", "ENCRYPTION_MASTER_KEY": "5e" * 32, "LOG_FORMAT": "text"}
_MODULE = (sys.executable, "-m")
_READY = "Worker process is ready for action"


@dataclass(frozen=True)
class Bed:
    """Servers with a fresh database, and the product's services in this process."""

    environment: Mapping[str, str]
    folder: Path
    container: Container

    @contextmanager
    def process(self, name: str, *argv: str) -> Iterator[Process]:
        """A process of the product, ended at the end of the block."""
        command = Command(
            ["/bin/sh", "-c", f"cd '{ROOT}' && exec \"$@\"", "sh", *argv],
            {**self.environment, "PYTHONPATH": str(ROOT)},
            death_signal=signal.SIGTERM,
        )
        process = Process(command, self.log(name))
        try:
            yield process
        finally:
            process.end(signal.SIGTERM, 10)

    @contextmanager
    def workers(self, pool: str, *, processes: int, threads: int) -> Iterator[Process]:
        """Workers of a pool, ready for their first job."""
        self.log(pool).unlink(missing_ok=True)
        options = (
            "--processes",
            str(processes),
            "--threads",
            str(threads),
            "--worker-shutdown-timeout",
            "2000",
        )
        with self.process(pool, *_MODULE, "dramatiq", f"tasks.{pool}:broker", *options) as process:
            self.wait(pool, lambda: self.log(pool).read_text().count(_READY) == processes, process)
            yield process

    @contextmanager
    def provider(self, *, milliseconds: int, dimensions: int) -> Iterator[str]:
        """A provider that answers after so long; its base_url."""
        port = free_port()
        arguments = (str(port), str(milliseconds), str(dimensions))
        with self.process("provider", *_MODULE, "tests.bench.provider", *arguments):
            yield f"http://127.0.0.1:{port}/v1"

    def wait(self, what: str, ready: Any, process: Process | None = None, *, seconds: float = 300) -> None:
        """Poll until `ready` returns something true. Raises RuntimeError with the end of the log."""
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until or (process is not None and not process.alive()):
                raise RuntimeError(f"waited for {what}:\n{self.log(what).read_text()[-3000:]}")
            time.sleep(0.05)

    def log(self, name: str) -> Path:
        """The log of one of our processes."""
        return self.folder / f"{name}.log"

    def sql(self, statement: str, **values: Any) -> Sequence[Any]:
        """What a query answers."""
        with self.container.database.transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = 0"))  # of a million rows, say
            found = session.connection().execute(text(statement), values)
            return found.all() if found.returns_rows else ()


@contextmanager
def bed(**more: str) -> Iterator[Bed]:
    """Start everything that the product needs but its processes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, Stack(StackOptions(Path(name))) as stack:
        environment = {**_SETTINGS, **stack.environment, **more}
        Product(environment, data_dir=Path(name), port=free_port()).migrate()
        container = build(Settings.from_env(environment))
        container.blobs.ensure_bucket()
        try:
            yield Bed(environment, Path(name), container)
        finally:
            container.close()


def make_dataset(bed: Bed, owner: Principal, *, items: int, chunks: int) -> int:
    """A dataset of so many items with so many chunks each, as rows; its id."""
    bed.container.services.owners.ensure(owner)
    dataset_id = bed.container.services.datasets.create(owner, title="Bench").dataset_id
    bed.sql(
        """INSERT INTO items (owner_id, dataset_id, title, text, content_hash, chunk_count)
           SELECT :owner, :dataset, 'Item ' || n, 'text', md5(:dataset || '-' || n), :chunks
           FROM generate_series(1, :items) AS n """,
        owner=owner.owner_id, dataset=dataset_id, items=items, chunks=chunks,
    )  # fmt: skip
    bed.sql(
        """INSERT INTO chunks (chunk_id, item_id, position, text, start_char, end_char, token_count)
           SELECT gen_random_uuid(), item_id, n, repeat('passage ' || n || ' of an item. ', 12), n, n + 1, 60
           FROM items, generate_series(0, :last) AS n WHERE dataset_id = :dataset """,
        dataset=dataset_id, last=chunks - 1,
    )  # fmt: skip
    return dataset_id


def make_embedder(bed: Bed, owner: Principal, base_url: str, dimensions: int) -> int:
    """An embedder of the waiting provider; its id."""
    view = bed.container.services.embedders.create(
        owner,
        {
            "name": "bench",
            "provider": "openai",
            "base_url": base_url,
            "model": "bench",
            "dimensions": dimensions,
        },
    )
    return view.embedder_id
