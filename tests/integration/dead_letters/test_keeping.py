"""What a worker process does about dead letters by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, update

from app.container import Container
from app.services import letter_ends
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from app.storage.postgres.tables import DeadLetterRow
from tasks import letters
from tasks.letters import LetterKeeping
from tests.integration.dead_letters.conftest import ADMIN, Graveyard
from tests.support.bulk_world import chores


@pytest.fixture
def keeping(container: Container) -> Iterator[LetterKeeping]:
    middleware: Any = LetterKeeping(container)
    middleware.after_worker_boot(None, None)
    yield middleware
    middleware.before_worker_shutdown(None, None)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_removed(container: Container, dead_letter_id: int) -> bool:
    with container.database.transaction() as session:
        return session.get_one(DeadLetterRow, dead_letter_id).removed_at is not None


@pytest.mark.usefixtures("keeping")
def test_a_worker_indexes_letters_as_they_come_and_works_off_bulk_jobs(
    graves: Graveyard, container: Container
):
    found, bulks = container.services.dead_letters, container.services.letter_bulks
    graves.die(number=2)
    wait_until(lambda: len(found.list(ADMIN).items) == 2)
    bulk_id = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("discard", "test files")).bulk.bulk_id
    bulks.start(ADMIN, bulk_id)
    wait_until(lambda: bulks.get(ADMIN, bulk_id).state == "finished")
    assert found.list(ADMIN).items == ()


def test_many_letters_that_are_over_leave_their_stream_without_a_rest(
    graves: Graveyard, container: Container, monkeypatch: pytest.MonkeyPatch
):
    keys = [letter.dead_letter_id for letter in graves.some(3)]
    for key in keys:
        container.services.letter_acts.discard(ADMIN, key, why="test files")
    with container.database.transaction() as session:
        session.execute(update(DeadLetterRow).values(undo_until=func.now()))
    for module in (letters, letter_ends):
        monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(letters, "_KEEP_SECONDS", 1e6)
    with chores(container):
        wait_until(lambda: all(is_removed(container, key) for key in keys))
    assert graves.waiting() == 0


def test_a_lost_row_is_found_by_the_sweep(graves: Graveyard, container: Container):
    graves.die(number=2)
    assert container.services.letter_ends.repair(dry_run=True) == 2
    assert container.services.dead_letters.list(ADMIN).items == ()
    assert container.sweeps.run().letters_indexed == 2
    assert len(container.services.dead_letters.list(ADMIN).items) == 2


def test_a_bulk_job_that_takes_hours_keeps_nothing_else_waiting(
    graves: Graveyard, container: Container, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(letters, "_KEEP_SECONDS", 0.1)
    bulks, last = container.services.letter_bulks, graves.some(8)[-1].dead_letter_id
    slow = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("replay", "slowly", per_second=0.1)).bulk.bulk_id
    bulks.start(ADMIN, slow)
    with chores(container):
        wait_until(lambda: bulks.get(ADMIN, slow).done == 1)
        container.services.letter_acts.discard(ADMIN, last, why="a test file")
        with container.database.transaction() as session:
            session.execute(update(DeadLetterRow).values(undo_until=func.now()))
        wait_until(lambda: is_removed(container, last))
        assert bulks.get(ADMIN, slow).state == "running"
