"""A thousand letters are replayed at a rate, and the process that serves the panel is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from dramatiq.message import Message
from sqlalchemy import select

from app.container import Container
from app.jobs.contracts import ExtractFile
from app.storage.postgres.tables import DeadLetterBulkItem
from brokers import inspect
from tests.integration.dead_letters.conftest import Graveyard
from tests.support.app_processes import free_port

_LETTERS, _PER_SECOND = 1000, 200
_PATIENCE_SECONDS = 60
_ROOT = Path(__file__).resolve().parents[3]
WORKER = """
import time
from app.config import Settings
from app.container import build
container = build(Settings.from_env())
while True:
    container.bulk_runs.run_next() or time.sleep(0.1)
"""


def eventually(what: str, ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer := ready():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"waited {_PATIENCE_SECONDS} s for {what}")


@pytest.fixture
def environment(stack_env: dict[str, str], nats_url: str, migrated_url: str) -> dict[str, str]:
    own = {"DATABASE_URL": migrated_url, "NATS_URL": nats_url, "ENCRYPTION_MASTER_KEY": "ab" * 32}
    return {**stack_env, **own}


@contextmanager
def process(environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    started = [sys.executable, *command]
    with subprocess.Popen(started, cwd=_ROOT, env=environment, start_new_session=True) as running:
        try:
            yield running
        finally:
            kill(running)


def kill(running: subprocess.Popen[bytes]) -> None:
    """SIGKILL for it and all its children at once."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)


@contextmanager
def web(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    with (
        process(environment, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}") as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        eventually("the web process", lambda: _answers(client))
        yield running, client


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/dead-letters/bulks").status_code == 200
    except httpx.TransportError:
        return False


def bury_many(container: Container, number: int) -> None:
    """Letters of no job, as workers write them, without waiting for each."""
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


def test_a_bulk_replay_outlives_the_web_process_and_replays_each_letter_once(
    graves: Graveyard, container: Container, environment: dict[str, str]
) -> None:
    bury_many(container, _LETTERS)
    indexed = 0
    while indexed < _LETTERS:  # who waits too short a time leaves letters to a second delivery, minutes later
        indexed += graves.index.take(wait_seconds=30)
    with process(environment, "-c", WORKER):
        with web(environment) as (running, client):
            order = {"act": "replay", "why": "paid", "filter": {}, "per_second": _PER_SECOND}
            bulk = client.post("/api/dead-letters/bulks", json=order).json()["bulk"]
            at = f"/api/dead-letters/bulks/{bulk['bulk_id']}"
            assert client.post(f"{at}/start").json()["state"] == "running"
            eventually("the first of them", lambda: client.get(at).json()["bulk"]["done"] > _LETTERS / 10)
            kill(running)
            assert running.wait() == -signal.SIGKILL
        with web(environment) as (_, client):
            seen = client.get(at).json()["bulk"]
            assert 0 < seen["done"] <= _LETTERS
            done = eventually(
                "the end", lambda: (now := client.get(at).json()["bulk"])["state"] == "finished" and now
            )
    assert (done["done"], done["skipped"], done["failed"]) == (_LETTERS, 0, 0)
    assert inspect.depths(container.broker)[0].ready == _LETTERS
    with container.database.transaction() as session:
        successors = session.scalars(select(DeadLetterBulkItem.detail)).all()
    assert len(set(successors)) == len(successors) == _LETTERS
    assert graves.waiting() == 0
