"""`make bench-dlq`: pages and groups of a million dead letters, the rebuild of the index, bulk replays.

Rows are made in Postgres, letters on a real stream; one client asks. Each figure has what it may be at most.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dramatiq.message import Message
from sqlalchemy import func, select, text, true, update

from app.config import Settings
from app.container import Container, build
from app.jobs.pools import POOLS
from app.security.audit import Origin, acting
from app.security.principal import Principal, Role
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from app.services.letter_search import settled
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow
from brokers import dead_feed, inspect
from devstack.stack import Stack, StackOptions
from tests.bench import dlq_pages
from tests.bench import report as reports
from tests.bench.report import Report, arguments, spread
from tests.support.domain import World, migrate

PAGE = reports.ROOT / "docs" / "benchmarks" / "dlq.md"
ADMIN, ADA = Principal("root", "Root", Role.ADMIN), Principal("ada", "Ada")
_NO_POOL, _NO_CLASS = LetterFilter(pool="none"), LetterFilter(error_class="none")
_NO_BULK = LetterFilter(state=None, bulk_id=7)
_AT_ONCE = 50_000
_GROUPS = 300
_FILL = """
INSERT INTO dead_letters (stream_life, sequence, message_id, owner_id, actor, queue, pool, reason,
    error_class, error_message, cause, fingerprint, attempts, worker, trace_id, size_bytes,
    truncated_bytes, first_seen_at, died_at, expires_at, arguments, document, words)
SELECT 'bench', n, 'm' || n, CASE WHEN n % 10 = 0 THEN 'ada' ELSE 'bob' END,
    (ARRAY['extract_file', 'embed_items', 'build_visualization'])[n % 3 + 1],
    (ARRAY['collection-transforms', 'dataset-transforms', 'visualization-transforms'])[n % 3 + 1],
    (ARRAY['collections', 'datasets', 'visualizations'])[n % 3 + 1],
    (ARRAY['permanent-error', 'attempts-exhausted', 'crash-loop'])[n % 7 % 3 + 1],
    'app.errors.ProviderRefusedError', 'the account is frozen ' || n, 'the account is frozen <n>',
    lpad(to_hex((n * 7919 % :groups)::int), 16, '0'), 5, 'host:' || n % 40, md5(n::text), 200, 0,
    now() - interval '1 h', now() - (:total - n) * interval '2 s', now() + interval '20 days',
    jsonb_build_object('file_id', n, 'collection_transform_id', n % 500),
    'report-' || n || '.pdf',
    array_to_tsvector(string_to_array('the account is frozen app errors providerrefusederror report pdf '
        || CASE WHEN n % 10 = 0 THEN 'ada ' ELSE 'bob ' END || n, ' ')
        || CASE WHEN n > :total / 2 THEN ARRAY['new'] ELSE ARRAY['old'] END)
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""
WORKER = """
from app.config import Settings
from app.container import build
container = build(Settings.from_env())
while not container.bulk_runs.run_next(): pass
"""


def main() -> int:
    """Measure, print, and write the page where asked."""
    reports.PAGE = PAGE
    options = arguments(__doc__, rows=1_000_000, letters=100_000, replays=10_000, rounds=31)
    report = Report("dlq", options)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = StackOptions(Path(folder), services=frozenset({"postgres", "nats"}))
        with Stack(stack) as servers, acting(Origin("bench")):
            settings = _settings(servers)
            container = build(Settings.from_env(settings))
            container.apply_topology(dry_run=False)
            _replays(report, container, settings, options.replays)
            _rebuild(report, container, options.letters)
            _fill(container, options.rows)
            _questions(report, container, options.rounds)
            _everything(report, container)
            dlq_pages.measure(report, container, (ADA, ADMIN), options.rounds)
            container.close()
            container.broker.close()
    report.say(f"Load average over fifteen minutes at the end: {os.getloadavg()[2]:.1f}.")
    return report.end()


def _settings(servers: Stack) -> dict[str, str]:
    migrate(servers.environment["DATABASE_URL"])
    return {**servers.environment, "ENCRYPTION_MASTER_KEY": "ab" * 32, **dlq_pages.SIGN_IN}


def _fill(container: Container, rows: int) -> None:
    World(container.database, "ada")
    World(container.database, "bob")
    with container.database.transaction() as session:
        session.execute(text("TRUNCATE dead_letters, dead_letter_groups, dead_letter_hours CASCADE"))
    for first in range(1, rows + 1, _AT_ONCE):
        values = {"first": first, "last": min(rows, first + _AT_ONCE - 1), "total": rows, "groups": _GROUPS}
        with container.database.transaction() as session:
            session.execute(text(_FILL), values)
        print(f"{values['last']:,} rows", flush=True)
    with container.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE dead_letters"))


def _questions(report: Report, container: Container, rounds: int) -> None:
    letters = container.services.dead_letters
    fingerprint = letters.groups(ADMIN, limit=1).items[0].fingerprint
    token = None
    for _ in range(20):
        token = letters.list(ADMIN, limit=1000, token=token).continuation_token
    asked: dict[str, Callable[[], Any]] = {
        "first page, all owners": lambda: letters.list(ADMIN),
        "first page, one owner": lambda: letters.list(ADA),
        "the page after 20,000 letters": lambda: letters.list(ADMIN, token=token),
        "one cause": lambda: letters.list(ADMIN, LetterFilter(fingerprint=fingerprint)),
        "reason and worker": lambda: letters.list(ADMIN, LetterFilter(reason="crash-loop", worker="host:7")),
        "an argument of the job": lambda: letters.list(ADMIN, LetterFilter(argument="file_id=4711")),
        "a filter that nothing matches": lambda: letters.list(
            ADMIN, LetterFilter(actor="extract_file", worker="nobody", attempts=6)
        ),
        "search: a document": lambda: letters.list(ADMIN, LetterFilter(search="report 4711 pdf")),
        "search: a word that all have": lambda: letters.list(ADMIN, LetterFilter(search="frozen")),
        "search: a word and the owner who has few": lambda: letters.list(
            ADMIN, LetterFilter(search="frozen ada")
        ),
        "search: the beginning of a word that all have, one owner": lambda: letters.list(
            ADA, LetterFilter(search="repo")
        ),
        "search: a word that only the older half has": lambda: letters.list(
            ADMIN, LetterFilter(search="old")
        ),
        "search: words of which one is nowhere": lambda: letters.list(
            ADMIN, LetterFilter(search="frozen melted")
        ),
        "a queue that has none": lambda: letters.list(ADMIN, LetterFilter(queue="none", reason="expired")),
        "a pool that has none": lambda: letters.list(ADMIN, _NO_POOL),
        "a class of error that none has": lambda: letters.list(ADMIN, _NO_CLASS),
        "a bulk job that ended none": lambda: letters.list(ADMIN, _NO_BULK),
        "older than 20 days": lambda: letters.list(ADMIN, LetterFilter(older_than=20 * 86_400)),
        "more attempts than any has": lambda: letters.list(ADMIN, LetterFilter(attempts=6)),
        "groups, all owners": lambda: letters.groups(ADMIN),
        "groups, one owner": lambda: letters.groups(ADA),
    }
    rows = []
    for name, ask in asked.items():
        rows.append([name, spread([_milliseconds(ask) for _ in range(rounds)])])
        print(*rows[-1], flush=True)
    report.table("Answers of the service, ms: median (least-most)", ["question", "ms"], rows)
    plans = {
        "The first page": LetterFilter(),
        "A document": LetterFilter(search="report 4711 pdf"),
        "A word that all have": LetterFilter(search="frozen"),
        "A word that only the older half has": LetterFilter(search="old"),
        "A pool that has none": _NO_POOL,
        "A class of error that none has": _NO_CLASS,
        "A bulk job that ended none": _NO_BULK,
    }
    for name, wanted in plans.items():
        plan = _explain(container, wanted)
        report.say(f"{name}, by `EXPLAIN (ANALYZE, BUFFERS)`:\n\n```\n{plan}\n```")


def _everything(report: Report, container: Container) -> None:
    """A bulk job over all letters: how long it takes to freeze the list, and to look at it."""
    bulks, begun = container.services.letter_bulks, time.perf_counter()
    bulk = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("discard", "bench")).bulk
    seconds = time.perf_counter() - begun
    look = _milliseconds(lambda: bulks.preview(ADMIN, bulk.bulk_id))
    bulks.cancel(ADMIN, bulk.bulk_id)
    report.say(f"A bulk job over all {bulk.total:,}: frozen in {seconds:.1f} s, looked at in {look:.1f} ms.")


def _milliseconds(ask: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    ask()
    return (time.perf_counter() - begun) * 1000


def _explain(container: Container, wanted: LetterFilter) -> str:
    row = DeadLetterRow
    newest = select(row).order_by(row.died_at.desc(), row.dead_letter_id.desc()).limit(51)
    with container.database.transaction() as session:
        conditions = replace(wanted, search=None).conditions()
        if wanted.search is not None:
            conditions.append(settled(session, true(), wanted.search))
        statement = newest.where(*conditions)
        compiled = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        asked = f"EXPLAIN (ANALYZE, BUFFERS) {compiled}".replace(":", "\\:")
        lines = session.execute(text(asked)).scalars()
        return "\n".join(lines)


def _rebuild(report: Report, container: Container, number: int) -> None:
    _publish(container, number, prefix="rebuild")
    begun, added = time.perf_counter(), 0
    for progress in container.letter_index.rebuild():
        added = progress[1]
    seconds = time.perf_counter() - begun
    assert added >= number, "every letter has a row"
    report.say(f"Rebuild: {added:,} letters in {seconds:.1f} s, {added / seconds:,.0f} rows/s.")


def _publish(container: Container, number: int, prefix: str) -> None:
    """Letters as workers write them, without waiting for each."""
    before = dead_feed.lifetime(container.broker).messages
    session = container.broker.connection.session()
    subject = f"{container.broker.options.subject_root}.dead.{POOLS['collections'].queue}"

    async def publish() -> None:
        client = await session.client()
        for n in range(number):
            await client.publish(subject, _body(f"{prefix}-{n}"), headers=_headers(f"{prefix}-{n}", n))
            if n % 500 == 0:
                await client.flush()
        await client.flush()

    container.broker.connection.run(publish(), timeout_seconds=600)
    while dead_feed.lifetime(container.broker).messages < before + number:
        asyncio.run(asyncio.sleep(0.1))


def _body(message_id: str) -> bytes:
    queue = POOLS["collections"].queue
    message: Message[Any] = Message(queue, "extract_file", (), {"job_id": "x"}, {}, message_id=message_id)
    return message.encode()


def _headers(message_id: str, n: int) -> dict[str, str]:
    trace = 'Traceback\\n  File \\"/srv/app/services/extraction_runs.py\\", line 7, in extract_file\\n'
    return {
        "Dead-Reason": "permanent-error",
        "Dead-Error-Class": "app.errors.ProviderRefusedError",
        "Dead-Error-Message": f'"the account of customer {n} is frozen"',
        "Dead-Trace": f'"{trace}"',
        "Dead-Attempts": '[{"attempt": 1, "worker": "w:1", "started_at": 1700000000, "error": "frozen"}]',
        "Dead-At": f"2026-01-01T00:00:00.{n % 1_000_000:06d}+00:00",
        "Dead-Queue": POOLS["collections"].queue,
        "Dead-Message-Id": f'"{message_id}"',
        "Dead-Actor": '"extract_file"',
        "Dead-Size": "200",
    }


def _replays(report: Report, container: Container, settings: dict[str, str], number: int) -> None:
    bulk_id = _prepared(container, number, "steady")
    begun = time.perf_counter()
    container.bulk_runs.run_next()
    seconds = time.perf_counter() - begun
    done = container.services.letter_bulks.get(ADMIN, bulk_id)
    report.say(
        f"Replay of {done.done:,} of {number:,} at 500/s: {seconds:.1f} s, {done.done / seconds:,.0f}/s."
    )
    bulk_id = _prepared(container, number, "killed")
    sent = list(_kill_twice(container, settings, bulk_id, number))
    with container.database.transaction() as session:
        session.execute(update(DeadLetterBulk).values(leased_until=func.now()))
    container.bulk_runs.run_next()
    done = container.services.letter_bulks.get(ADMIN, bulk_id)
    with container.database.transaction() as session:
        mine = select(DeadLetterBulkItem.detail).where(DeadLetterBulkItem.bulk_id == bulk_id)
        successors = set(session.scalars(mine))
    ready = inspect.depths(container.broker)[0].ready
    report.say(
        f"The same, its worker killed (SIGKILL) after {sent[0]:,} and {sent[1]:,}: {done.done:,} done, "
        f"{done.skipped} skipped, {done.failed} failed, {len(successors):,} different successors; "
        f"of both replays {ready:,} messages lie in the queue."
    )


def _prepared(container: Container, number: int, prefix: str) -> int:
    _publish(container, number, prefix)
    while container.letter_index.take(most=1000, wait_seconds=0.5):
        pass
    bulks = container.services.letter_bulks
    bulk = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("replay", "bench", per_second=500)).bulk
    bulks.start(ADMIN, bulk.bulk_id)
    return bulk.bulk_id


def _kill_twice(container: Container, settings: dict[str, str], bulk_id: int, number: int) -> Iterator[int]:
    for share in (1 / 3, 2 / 3):
        with container.database.transaction() as session:
            session.execute(update(DeadLetterBulk).values(leased_until=None))
        with subprocess.Popen([sys.executable, "-c", WORKER], env=settings) as worker:
            done = 0
            while done < number * share:
                time.sleep(0.1)
                done = container.services.letter_bulks.get(ADMIN, bulk_id).done
            worker.send_signal(signal.SIGKILL)
        yield done


if __name__ == "__main__":
    sys.exit(main())
