"""A worker that looks after dead letters replays many at a rate, and the NATS server is killed meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from app.container import Container
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from brokers.jetstream import replaying
from devstack.stack import Stack
from tasks import letters
from tests.integration.dead_letters.conftest import ADMIN
from tests.support import bulk_world

_LETTERS, _PER_SECOND = 300, 200
_FATAL = (3, 9)  # batches after which the server dies: what they sent is stored, and not yet on record


@pytest.fixture
def doomed(breakable_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """Servers of which NATS is killed at the worst moments."""
    store, numbers = replaying._store_together, itertools.count(1)

    async def store_and_die(session: Any, plans: Any) -> Any:
        sent = await store(session, plans)
        if next(numbers) in _FATAL:
            breakable_stack.kill("nats")
        return sent

    monkeypatch.setattr(replaying, "_store_together", store_and_die)
    return breakable_stack


def test_a_bulk_replay_outlives_two_kills_of_the_broker_and_replays_each_letter_once(
    container: Container, doomed: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(letters, "_PAUSE_SECONDS", 0.5)
    bulk_world.bury_many(container, _LETTERS)
    bulks = container.services.letter_bulks
    bulk = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("replay", "paid", per_second=_PER_SECOND)).bulk
    bulks.start(ADMIN, bulk.bulk_id)
    with bulk_world.chores(container):
        for is_long in (True, False):
            bulk_world.eventually("the server's death", lambda: not doomed.alive("nats"))
            if is_long:  # else the same requests are sent again, once it is back
                bulk_world.eventually("the end of patience", lambda: _gave_up(caplog))
            assert bulk_world.done(container) < _LETTERS
            doomed.restart("nats")
        bulk_world.eventually("the end", lambda: bulks.get(ADMIN, bulk.bulk_id).state == "finished")
    bulk_world.assert_each_was_replayed_once(container, _LETTERS)


def _gave_up(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether the thread of bulk jobs has told that it will come back."""
    told = [one.getMessage() for one in caplog.records if one.threadName == "letter-bulks"]
    return any("trying again" in words for words in told)
