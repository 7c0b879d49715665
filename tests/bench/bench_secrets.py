"""`make bench-secrets`: a key rotation under load, killed again and again, and what the audit log costs.

NUMBER= secrets (100000) are rotated by processes that are killed KILLS= times (20) at random moments, while
one thread reads and opens secrets and another changes them. Then the audit log: how long a small transaction
takes with and without it, how many events per second one and eight threads write, how fast it is verified.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

from sqlalchemy import func, select

from app.security.crypto import SecretBox
from app.services.audit import Audit
from app.services.audit_trail import AuditTrail
from app.services.secrets import Checked, Secrets
from app.storage.postgres.session import Database, DatabaseOptions
from app.storage.postgres.tables import AuditEvent, Collection
from devstack.stack import Stack, StackOptions
from tests.support.domain import migrate
from tests.support.secrets import NEW, OLD, Traffic, fill, left, rotating, traffic

FRESH = SecretBox(NEW, (OLD,))
_QUIET_SECONDS = 10.0
_SMALL = 500


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    number = int(os.environ.get("NUMBER", "100000"))  # noqa: TID251
    kills = int(os.environ.get("KILLS", "20"))  # noqa: TID251
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, postgres(Path(folder)) as url:
        migrate(url)
        database, audit = opened(url)
        fill(database, number)
        rotation(database, url, number, kills)
        measure_audit(database, audit)
        database.close()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Postgres as in production: every commit reaches the disk."""
    with Stack(StackOptions(folder, durable=True, services=frozenset({"postgres"}))) as stack:
        yield stack.environment["DATABASE_URL"]


def opened(url: str, *, watched: bool = True) -> tuple[Database, Audit]:
    trail = AuditTrail(FRESH.keyring)
    options = DatabaseOptions(url=url.replace("postgresql://", "postgresql+psycopg2://", 1))
    database = Database(options, trail.listen if watched else None)
    return database, Audit(lambda: database, trail)


def rotation(database: Database, url: str, number: int, kills: int) -> None:
    quiet, busy = Traffic(), Traffic()
    with traffic(database, FRESH, number, into=quiet):
        time.sleep(_QUIET_SECONDS)
    began = time.monotonic()
    with traffic(database, FRESH, number, into=busy):
        killed = sum(killed_once(database, url, number // (200 * (kills + 2))) for _ in range(kills))
        process = rotating(url)
        out, err = process.communicate()
    assert process.returncode == 0, out + err
    say(f"rotation of {number} secrets, killed {killed} times: {time.monotonic() - began:.0f} s in all")
    say(
        f"  left on the old key: {left(database, FRESH.key_id)}; failed reads or writes: {len(busy.failures)}"
    )
    say(f"  secrets per second while a process was rotating: {rate(database):.0f}")
    for name, seen in (("without", quiet), ("with", busy)):
        say(f"  {name} rotation: {seen.reads} reads, ms: {shown(seen.read_seconds)}")
        say(f"  {name} rotation: {len(seen.write_seconds)} writes, ms: {shown(seen.write_seconds)}")
    alone, checked = SecretBox(NEW), Checked()
    began = time.perf_counter()
    faults = list(Secrets(database, alone, AuditTrail(alone.keyring)).verify(checked))
    seconds = time.perf_counter() - began
    say(f"  verify: {checked.total / seconds:.0f} secrets per second, {len(faults)} faults")


def killed_once(database: Database, url: str, batches: int) -> bool:
    """Let a rotation do some batches of 200 and kill it; false where it was done before."""
    process = rotating(url, "--batch-size", "200")
    goal = events(database) + max(1, round(batches * random.uniform(0.5, 1.5)))
    while process.poll() is None and events(database) < goal:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def events(database: Database) -> int:
    with database.transaction() as session:
        return (
            session.scalar(select(func.max(AuditEvent.id)).where(AuditEvent.action == "secrets.rotated")) or 0
        )


def rate(database: Database) -> float:
    """Of batches that follow each other without a kill between them."""
    statement = select(AuditEvent.at, AuditEvent.action, AuditEvent.details).order_by(AuditEvent.id)
    with database.transaction() as session:
        rows = session.execute(statement.where(AuditEvent.action.startswith("secrets."))).all()
    done = [
        (after.details["count"], (after.at - before.at).total_seconds())
        for before, after in pairwise(rows)
        if before.action == after.action == "secrets.rotated"
    ]
    return float(sum(count for count, _ in done) / sum(seconds for _, seconds in done))


def measure_audit(database: Database, audit: Audit) -> None:
    plain, _ = opened(database._options.url, watched=False)
    say("audit log")
    for name, each in (("without", plain), ("with", database)):
        times = [timed(partial(make_collection, each)) for _ in range(_SMALL)]
        say(f"  a collection {name} it, ms: {shown(times)}")
    plain.close()
    for threads in (1, 8):
        with ThreadPoolExecutor(threads) as pool:
            seconds = timed(partial(note_many, pool, audit, 2000))
        say(f"  {threads} threads: {2000 / seconds:.0f} transactions with an event per second")
    for _ in range(100):
        with database.transaction() as session:
            for number in range(1000):
                audit.trail.record(session, "bench.many", owner_id="ada", object_id=str(number))
    check = audit.check()
    used = time.process_time()
    seconds = timed(lambda: list(audit.verify(check)))
    used = time.process_time() - used
    say(f"  verify: {check.events / seconds:.0f} events per second, {check.events / used:.0f} per CPU second")


def note_many(pool: ThreadPoolExecutor, audit: Audit, number: int) -> None:
    list(pool.map(lambda _: audit.note("bench.done"), range(number)))


def make_collection(database: Database) -> None:
    with database.transaction() as session:
        session.add(Collection(owner_id="ada", title="t", tags=[]))


def timed(deed: Callable[[], object]) -> float:
    began = time.perf_counter()
    deed()
    return time.perf_counter() - began


def shown(seconds: list[float]) -> str:
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    figures = {"p50": percentiles[49], "p95": percentiles[94], "p99": percentiles[98], "most": max(seconds)}
    return ", ".join(f"{name} {1000 * value:.1f}" for name, value in figures.items())


if __name__ == "__main__":
    main()
