"""A worker that looks after dead letters replays many at a rate, and the NATS server is killed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.container import Container
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from devstack.stack import Stack
from tasks import letters
from tasks.letters import LetterKeeping
from tests.integration.dead_letters.conftest import ADMIN
from tests.support import bulk_world

_LETTERS, _PER_SECOND = 400, 100


@contextmanager
def chores(container: Container) -> Iterator[None]:
    """The threads of a worker that look after dead letters."""
    keeping = LetterKeeping(container)
    worker: Any = None  # it is not asked anything
    keeping.after_worker_boot(container.broker, worker)
    yield
    keeping.before_worker_shutdown(container.broker, worker)
    for thread in threading.enumerate():
        if thread.name in {"letter-index", "letter-bulks"}:
            thread.join(10)


def test_a_bulk_replay_outlives_two_kills_of_the_broker_and_replays_each_letter_once(
    container: Container, breakable_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "_PAUSE_SECONDS", 0.5)
    bulk_world.bury_many(container, _LETTERS)
    bulks = container.services.letter_bulks
    bulk = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("replay", "paid", per_second=_PER_SECOND)).bulk
    bulks.start(ADMIN, bulk.bulk_id)
    with chores(container):
        for reached in (_LETTERS // 5, _LETTERS // 2):
            _wait_for(container, reached)
            breakable_stack.kill("nats")
            assert bulk_world.done(container) < _LETTERS
            breakable_stack.restart("nats")
        bulk_world.eventually("the end", lambda: bulks.get(ADMIN, bulk.bulk_id).state == "finished")
    bulk_world.assert_each_was_replayed_once(container, _LETTERS)


def _wait_for(container: Container, reached: int) -> None:
    bulk_world.eventually(f"{reached} letters", lambda: bulk_world.done(container) >= reached)
