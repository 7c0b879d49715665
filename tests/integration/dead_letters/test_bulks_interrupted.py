"""Whoever changes their mind while a bulk replay runs is heard at once, at any rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from app.container import Container
from app.services import bulk_runs
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder, LetterBulks
from app.storage.postgres.tables import DeadLetterBulk
from brokers import inspect
from tests.integration.dead_letters.conftest import ADMIN, Graveyard, as_

Begin = Callable[[float], int]
_SELDOM = 0.2  # letters a second


@pytest.fixture
def bulks(container: Container) -> LetterBulks:
    return container.services.letter_bulks


@pytest.fixture
def begin(bulks: LetterBulks, graves: Graveyard) -> Begin:
    def prepare(per_second: float) -> int:
        graves.some(3)
        order = BulkOrder("replay", "the account is paid", per_second=per_second)
        bulk_id = bulks.prepare(ADMIN, LetterFilter(), order).bulk.bulk_id
        bulks.start(ADMIN, bulk_id)
        return bulk_id

    return prepare


def ready(container: Container) -> int:
    return sum(depth.ready for depth in inspect.depths(container.broker))


def at_call(number: int, act: Callable[[], object]) -> Callable[[], bool]:
    """What the worker asks again and again; acts when it is asked for the nth time."""
    calls: Iterator[int] = iter(range(1, 10**6))

    def keep_on() -> bool:
        if next(calls) == number:
            act()
        return True

    return keep_on


def test_a_discard_during_a_bulk_replay_holds(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Begin
):
    bulk_id = begin(5)
    last = graves.indexed()[-1].dead_letter_id

    def discard() -> None:
        with as_("bob"):
            container.services.letter_acts.discard(ADMIN, last, why="poison, never again")

    container.bulk_runs.run_next(at_call(1, discard))
    letter = container.services.dead_letters.list_one(ADMIN, last)
    assert (letter.state, letter.ended_by, letter.bulk_id) == ("discarded", "bob", None)
    done = bulks.get(ADMIN, bulk_id)
    assert (done.state, done.done, done.skipped, ready(container)) == ("finished", 2, 1, 2)
    assert [one.detail for one in bulks.problems(ADMIN, bulk_id)] == ["it was discarded already"]


@pytest.mark.parametrize("act", ["cancel", "pause"])
def test_a_cancel_or_a_pause_is_heard_during_a_long_wait(
    container: Container, bulks: LetterBulks, begin: Begin, act: str
):
    bulk_id = begin(_SELDOM)
    container.bulk_runs.run_next(at_call(2, lambda: getattr(bulks, act)(ADMIN, bulk_id)))
    ended = bulks.get(ADMIN, bulk_id)
    assert (ended.state, ended.done) == ({"cancel": "cancelled", "pause": "paused"}[act], 1)
    assert ready(container) == 1, "nothing is sent after it"


def test_a_cancel_just_before_a_letter_is_sent_holds_it_back(
    container: Container, bulks: LetterBulks, begin: Begin, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk_runs, "_STEP_SECONDS", 1e9)  # nothing is written down, nor asked, on the way
    bulk_id = begin(5)
    container.bulk_runs.run_next(at_call(1, lambda: bulks.cancel(ADMIN, bulk_id)))
    ended = bulks.get(ADMIN, bulk_id)
    assert (ended.state, ended.done, ready(container)) == ("cancelled", 1, 1)


def test_a_worker_that_stops_leaves_a_slow_bulk_job_at_once_having_kept_its_lease(
    container: Container, bulks: LetterBulks, begin: Begin
):
    bulk_id, leases = begin(_SELDOM), list[datetime | None]()

    def look() -> bool:
        with container.database.transaction() as session:
            leases.append(session.get_one(DeadLetterBulk, bulk_id).leased_until)
        return len(leases) < 4

    container.bulk_runs.run_next(look)
    assert len(set(leases)) > 1, "it is renewed while nothing is sent"
    assert (bulks.get(ADMIN, bulk_id).state, ready(container)) == ("running", 1)
    with container.database.transaction() as session:
        assert session.get_one(DeadLetterBulk, bulk_id).leased_until is None, "others may take it up"
