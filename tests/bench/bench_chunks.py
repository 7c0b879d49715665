"""`make bench-chunks`: the rows of one large item through SQLAlchemy's batched INSERT and through COPY.

Both write the same item with its chunks, as the end of an extraction does, in one transaction on a fresh
Postgres with disk syncs: first write, and a second one that replaces every chunk. The order alternates by
round.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.pipeline.chunking.base import Chunk
from app.pipeline.document import Document
from app.services import extraction_runs
from app.storage.postgres.bulk import copy_rows
from app.storage.postgres.session import Database, DatabaseOptions
from app.storage.postgres.tables import ChunkRow, File
from devstack.stack import Stack, StackOptions
from tests.bench.report import Report, arguments, spread
from tests.support.domain import World, migrate

_WORDS = 'lorem, "ipsum"\tdolor\\sit '  # all that COPY must escape
Writer = Callable[[Session, int, list[Chunk]], None]


def copy_chunks(session: Session, item_id: int, chunks: list[Chunk]) -> None:
    """What the product could do instead."""
    session.execute(delete(ChunkRow).where(ChunkRow.item_id == item_id))
    copy_rows(session, ChunkRow.__tablename__, extraction_runs._chunk_rows(item_id, chunks))


WRITERS: dict[str, Writer] = {"INSERT": extraction_runs._write_chunks, "COPY": copy_chunks}


def main() -> int:
    """Measure, print, and write the section where asked."""
    options = arguments(__doc__, rounds=5, chunks=10_000)
    report = Report("chunks", options)
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = StackOptions(Path(folder), services=frozenset({"postgres"}))
        with Stack(stack) as servers:
            database = _database(servers.environment["DATABASE_URL"])
            for number in range(options.rounds):
                for name in list(WRITERS)[:: 1 if number % 2 == 0 else -1]:
                    for step, seconds in _measure(database, WRITERS[name], options.chunks):
                        times.setdefault((step, name), []).append(seconds)
                        print(f"round {number + 1}, {name}, {step}: {seconds:.2f} s", flush=True)
            database.close()
    report.table(
        f"One item of {options.chunks:,} chunks of 1,000 characters, seconds",
        ["what", "INSERT", "COPY", "INSERT over COPY"],
        [_row(step, times) for step in dict.fromkeys(step for step, _ in times)],
    )
    return report.end()


def _database(url: str) -> Database:
    migrate(url)
    return Database(DatabaseOptions(url=url.replace("postgresql://", "postgresql+psycopg2://", 1)))


def _measure(database: Database, write: Writer, count: int) -> Iterator[tuple[str, float]]:
    world = World(database)
    collection, dataset = world.collection(), world.dataset()
    transform = world.collection_transform(collection, dataset)
    file_id = world.file(collection)
    with database.transaction() as session:
        file = session.get_one(File, file_id)
    work = extraction_runs._Work(transform, "c1", {}, collection, dataset, "ada", file)
    for step, salt in (("first write", "a"), ("every chunk replaced", "b")):
        document, chunks = _document(count, salt)
        vars(extraction_runs)["_write_chunks"] = write
        started = time.perf_counter()
        with database.transaction() as session:
            extraction_runs._write_item(session, work, document, chunks)
        yield step, time.perf_counter() - started


def _document(count: int, salt: str) -> tuple[Document, list[Chunk]]:
    texts = [f"{salt}{number:09d} {_WORDS * 50}"[:1000] for number in range(count)]
    chunks = [
        Chunk(text, start=number * 1000, end=(number + 1) * 1000, token_count=250, page=number // 3,
              heading_path=('Chapter "1"', f"Part {number // 100}"))
        for number, text in enumerate(texts)
    ]  # fmt: skip
    return Document("".join(texts), (), "text/plain"), chunks


def _row(step: str, times: dict[tuple[str, str], list[float]]) -> list[str]:
    inserts, copies = times[step, "INSERT"], times[step, "COPY"]
    ratios = [insert / copy for insert, copy in zip(inserts, copies, strict=True)]
    return [step, spread(inserts, 2), spread(copies, 2), spread(ratios, 2)]


if __name__ == "__main__":
    sys.exit(main())
