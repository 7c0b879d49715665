"""A bulk job over many dead letters, and the web process, which a test may kill.

What a worker of the pool `collections` does beside its jobs, index letters and work off bulk jobs, runs in
threads of the test. The web process is the Procfile's, with fewer threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from dramatiq.message import Message
from sqlalchemy import select

from app.container import Container
from app.jobs.contracts import ExtractFile
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem
from brokers import dead_feed, inspect
from tasks.letters import THREADS, LetterKeeping
from tests.support.app_processes import free_port

_PATIENCE_SECONDS = 60
_ROOT = Path(__file__).resolve().parents[2]
_WEB = ("-m", "gunicorn", "wsgi:app", "--worker-class", "gthread", "--threads", "8", "--timeout", "120")


@dataclass(frozen=True)
class Web:
    """A web process that answers."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL for it and all its children at once; returns when it is gone."""
        kill(self.process)
        assert self.process.wait() == -signal.SIGKILL


def eventually(what: str, ready: Callable[[], Any]) -> Any:
    """Poll until `ready` returns something true, and return that; fails with `what`."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {_PATIENCE_SECONDS} s for {what}")


def kill(running: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


@contextmanager
def process(environment: Mapping[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with a process group of its own, killed at the end of the block."""
    started = [sys.executable, *command]
    with subprocess.Popen(started, cwd=_ROOT, env=environment, start_new_session=True) as running:
        try:
            yield running
        finally:
            kill(running)


@contextmanager
def chores(container: Container) -> Iterator[None]:
    """The threads of a worker that look after dead letters."""
    keeping = LetterKeeping(container)
    worker: Any = None  # it is not asked anything
    keeping.after_worker_boot(container.broker, worker)
    try:
        yield
    finally:
        keeping.before_worker_shutdown(container.broker, worker)
        for thread in threading.enumerate():
            if thread.name in THREADS:
                thread.join(10)


@contextmanager
def web(environment: Mapping[str, str], port: int | None = None) -> Iterator[Web]:
    """The web process, once it answers; on the port of one before, where that is given."""
    port = port or free_port()
    with process(environment, *_WEB, "--bind", f"127.0.0.1:{port}") as running:
        found = Web(running, port)
        eventually("the web process", lambda: _answers(found.url))
        yield found


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/dead-letters/bulks", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def bury_many(container: Container, number: int) -> None:
    """Letters of no job, as workers write them, without waiting for each; all have rows at the end."""
    session = container.broker.connection.session()
    subject = f"{container.broker.options.subject_root}.dead.{ExtractFile.queue}"
    told = {"Dead-Reason": "permanent-error", "Dead-Queue": ExtractFile.queue, "Dead-Actor": '"extract_file"'}

    async def publish() -> None:
        client = await session.client()
        for n in range(number):
            message: Message[Any] = Message(ExtractFile.queue, "extract_file", (), {}, {}, message_id=f"m{n}")
            headers = {**told, "Dead-Message-Id": f'"m{n}"', "Dead-At": f"2026-01-01T00:00:00.{n:06d}+00:00"}
            await client.publish(subject, message.encode(), headers=headers)
        await client.flush()

    container.broker.connection.run(publish())
    indexed = 0
    while indexed < number:  # who waits too short a time leaves letters to a second delivery, minutes later
        indexed += container.letter_index.take(wait_seconds=30)


def done(container: Container) -> int:
    """How many letters the newest bulk job has ended so far."""
    with container.database.transaction() as session:
        newest = select(DeadLetterBulk.done).order_by(DeadLetterBulk.bulk_id.desc()).limit(1)
        return session.scalar(newest) or 0


def assert_each_was_replayed_once(container: Container, number: int) -> None:
    """One bulk job has replayed so many letters: by its own account, on the queue, and on their stream."""
    with container.database.transaction() as session:
        bulk = session.scalars(select(DeadLetterBulk)).one()
        successors = session.scalars(select(DeadLetterBulkItem.detail)).all()
    assert (bulk.state, bulk.done, bulk.skipped, bulk.failed) == ("finished", number, 0, 0)
    assert len(set(successors)) == len(successors) == number
    assert inspect.depths(container.broker)[0].ready == number
    assert dead_feed.lifetime(container.broker).messages == 0
