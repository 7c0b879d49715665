"""What a worker process does about dead letters by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.container import Container
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from tasks.letters import LetterKeeping
from tests.integration.dead_letters.conftest import ADMIN, Graveyard


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


@pytest.mark.usefixtures("keeping")
def test_a_worker_indexes_letters_as_they_come_and_works_off_bulk_jobs(
    graves: Graveyard, container: Container
):
    letters, bulks = container.services.dead_letters, container.services.letter_bulks
    graves.die(number=2)
    wait_until(lambda: len(letters.list(ADMIN).items) == 2)
    bulk_id = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("discard", "test files")).bulk.bulk_id
    bulks.start(ADMIN, bulk_id)
    wait_until(lambda: bulks.get(ADMIN, bulk_id).state == "finished")
    assert letters.list(ADMIN).items == ()


def test_a_lost_row_is_found_by_the_sweep(graves: Graveyard, container: Container):
    graves.die(number=2)
    assert container.services.letter_ends.repair(dry_run=True) == 2
    assert container.services.dead_letters.list(ADMIN).items == ()
    assert container.sweeps.run().letters_indexed == 2
    assert len(container.services.dead_letters.list(ADMIN).items) == 2
