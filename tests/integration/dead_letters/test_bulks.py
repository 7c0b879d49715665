"""Bulk jobs over dead letters: a frozen list, each letter once, whoever is killed or changes their mind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app.container import Container
from app.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from app.services import bulk_runs, letter_bulks
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder, BulkView, LetterBulks
from app.storage.postgres.tables import DeadLetterBulk, DeadLetterBulkItem, DeadLetterRow, Job
from brokers import inspect
from tests.integration.dead_letters.conftest import ADA, ADMIN, BOB, Graveyard, as_
from tests.support.domain import World

REPLAY = BulkOrder("replay", "the account is paid", per_second=500)
EVERYTHING = LetterFilter()


@pytest.fixture
def bulks(container: Container) -> LetterBulks:
    return container.services.letter_bulks


@pytest.fixture
def begin(bulks: LetterBulks, graves: Graveyard) -> Callable[..., int]:
    def prepare(order: BulkOrder = REPLAY, wanted: LetterFilter = EVERYTHING) -> int:
        graves.indexed()
        bulk_id = bulks.prepare(ADMIN, wanted, order).bulk.bulk_id
        bulks.start(ADMIN, bulk_id)
        return bulk_id

    return prepare


def ready(container: Container) -> int:
    return sum(depth.ready for depth in inspect.depths(container.broker))


def expire_lease(container: Container) -> None:
    with container.database.transaction() as session:
        session.execute(update(DeadLetterBulk).values(leased_until=func.now()))


def counts(bulk: BulkView) -> tuple[int, int, int]:
    return bulk.done, bulk.skipped, bulk.failed


def test_a_bulk_replay_is_looked_at_first_and_then_replays_what_was_frozen(
    graves: Graveyard, container: Container, bulks: LetterBulks
):
    graves.die(number=4)
    graves.die(ValueError("no such model"))
    letters = graves.indexed()
    preview = bulks.prepare(ADMIN, LetterFilter(fingerprint=letters[0].fingerprint), REPLAY)
    assert (preview.bulk.total, preview.bulk.state) == (4, "prepared")
    assert [(part.cause, part.count) for part in preview.causes] == [(letters[0].cause, 4)]
    graves.die()
    graves.indexed()
    assert not container.bulk_runs.run_next(), "nothing is done before it is started"
    bulks.start(ADMIN, preview.bulk.bulk_id)
    assert container.bulk_runs.run_next()
    done = bulks.get(ADMIN, preview.bulk.bulk_id)
    assert (done.state, counts(done)) == ("finished", (4, 0, 0))
    assert (ready(container), graves.waiting()) == (4, 2)
    assert {each.bulk_id for each in graves.indexed(state="replayed")} == {done.bulk_id}
    assert [action for _, action in graves.acts()] == [
        "dead_letter_bulk.prepared", "dead_letter_bulk.started", "dead_letter.replayed",
        "dead_letter_bulk.finished",
    ]  # fmt: skip


def test_a_canary_pauses_after_its_letters_and_goes_on_when_told_to(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any
):
    graves.die(number=5)
    bulk_id = begin(BulkOrder("replay", "try two", per_second=500, canary=2))
    container.bulk_runs.run_next()
    paused = bulks.get(ADMIN, bulk_id)
    assert (paused.state, paused.done) == ("paused", 2)
    assert "the first 2 are done" in (paused.note or "")
    assert not container.bulk_runs.run_next()
    bulks.resume(ADMIN, bulk_id)
    container.bulk_runs.run_next()
    assert (bulks.get(ADMIN, bulk_id).state, ready(container)) == ("finished", 5)


def test_letters_that_ended_meanwhile_or_would_start_nothing_are_passed_over(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any
):
    graves.die(number=4)
    letters = graves.indexed()
    bulk_id = begin()
    container.services.letter_acts.discard(ADMIN, letters[0].dead_letter_id, why="not this one")
    container.services.letter_acts.replay(ADMIN, letters[1].dead_letter_id)
    with container.database.transaction() as session:
        session.delete(session.get_one(Job, letters[2].job_id))
    container.bulk_runs.run_next()
    assert counts(bulks.get(ADMIN, bulk_id)) == (1, 3, 0)
    told = {each.dead_letter_id: each.detail for each in bulks.problems(ADMIN, bulk_id)}
    assert told == {
        letters[0].dead_letter_id: "it was discarded already",
        letters[1].dead_letter_id: "it was replayed already",
        letters[2].dead_letter_id: "the job is gone, with what it was for",
    }


def test_too_many_failures_stop_a_bulk_replay(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk_runs, "_STEP_SECONDS", 0.0)
    graves.die(number=14)
    graves.indexed()
    with container.database.transaction() as session:
        session.execute(update(DeadLetterRow).where(DeadLetterRow.dead_letter_id > 6).values(depth=9))
    bulk_id = begin(BulkOrder("replay", "hope", per_second=100, stop_on_failure_share=0.3))
    container.bulk_runs.run_next()
    stopped = bulks.get(ADMIN, bulk_id)
    assert stopped.state == "stopped"
    assert stopped.failed / (stopped.done + stopped.failed) > 0.3
    assert "letters failed" in (stopped.note or "")


def test_a_bulk_discard_can_be_undone_letter_by_letter(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any
):
    graves.die(number=3)
    bulk_id = begin(BulkOrder("discard", "test files"))
    container.bulk_runs.run_next()
    assert counts(bulks.get(ADMIN, bulk_id)) == (3, 0, 0)
    assert graves.waiting() == 3
    first = graves.indexed(state="discarded")[0]
    assert container.services.letter_acts.undo(ADMIN, first.dead_letter_id).state == "open"


def test_a_very_large_bulk_discard_is_taken_back_in_parts(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any, monkeypatch: pytest.MonkeyPatch
):
    graves.die(number=3)
    bulk_id = begin(BulkOrder("discard", "test files"))
    container.bulk_runs.run_next()
    monkeypatch.setattr(letter_bulks, "_RESTORED_AT_ONCE", 2)
    undone = [bulks.undo(ADMIN, bulk_id) for _ in range(2)]
    assert [(one.restored, one.more) for one in undone] == [(2, True), (1, False)]
    assert "more can be" in (undone[0].bulk.note or "")
    assert len(graves.indexed()) == 3


def test_pausing_and_cancelling_take_effect_between_two_steps(
    graves: Graveyard, container: Container, bulks: LetterBulks, begin: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bulk_runs, "_STEP_SECONDS", 0.0)
    graves.die(number=6)
    bulk_id = begin(BulkOrder("replay", "slowly", per_second=20))
    steps = iter([bulks.pause, bulks.cancel])

    def interfere() -> bool:
        next(steps)(ADMIN, bulk_id)
        return True

    container.bulk_runs.run_next(interfere)
    paused = bulks.get(ADMIN, bulk_id)
    assert paused.state == "paused"
    assert 0 < paused.done < 6
    bulks.resume(ADMIN, bulk_id)
    container.bulk_runs.run_next(interfere)
    cancelled = bulks.get(ADMIN, bulk_id)
    assert cancelled.state == "cancelled"
    assert ready(container) == cancelled.done < 6
    with pytest.raises(ConflictError, match="is cancelled, not"):
        bulks.resume(ADMIN, bulk_id)


KILLED = """
import os
from app.config import Settings
from app.container import build
from app.services import bulk_runs
container, bulk_runs._STEP_SECONDS = build(Settings.from_env()), 0.0
write = bulk_runs._Replaying.write
def die(self, report):
    if len(report.replayed) >= 10:
        os.kill(os.getpid(), 9)  # sent, and not written down
    return write(self, report)
bulk_runs._Replaying.write = die
container.bulk_runs.run_next()
"""


def test_a_bulk_replay_whose_worker_is_killed_twice_replays_each_letter_exactly_once(
    graves: Graveyard,
    container: Container,
    bulks: LetterBulks,
    begin: Any,
    stack_env: dict[str, str],
    migrated_url: str,
):
    graves.die(number=40)
    bulk_id = begin(replace(REPLAY, per_second=100))
    environment = {**stack_env, "DATABASE_URL": migrated_url, "ENCRYPTION_MASTER_KEY": "ab" * 32}
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not container.bulk_runs.run_next(), "a lease is respected"
        expire_lease(container)
    assert bulks.get(ADMIN, bulk_id).done < ready(container) == 20
    container.bulk_runs.run_next()
    done = bulks.get(ADMIN, bulk_id)
    assert (done.state, counts(done)) == ("finished", (40, 0, 0))
    assert (ready(container), graves.waiting()) == (40, 0)
    with container.database.transaction() as session:
        details = session.scalars(select(DeadLetterBulkItem.detail)).all()
    successors = [each.successor_message_id for each in graves.indexed(state="replayed")]
    assert sorted(map(str, details)) == sorted(map(str, successors))
    assert len(set(successors)) == 40


def test_a_large_bulk_job_is_started_by_a_second_person(
    graves: Graveyard, container: Container, bulks: LetterBulks
):
    graves.die(number=3)
    graves.indexed()
    careful = LetterBulks(container.database, container.audit.trail, two_person_above=2)
    preview = careful.prepare(ADMIN, EVERYTHING, REPLAY)
    assert preview.needs_second_person
    with pytest.raises(ForbiddenError, match="another person"):
        careful.start(ADMIN, preview.bulk.bulk_id)
    with as_("frank"):
        assert careful.start(ADMIN, preview.bulk.bulk_id).started_by == "frank"


def test_a_bulk_job_holds_only_what_its_maker_may_see(
    graves: Graveyard, container: Container, bulks: LetterBulks
):
    graves.die(number=2)
    graves.indexed()
    World(container.database, "bob")
    with pytest.raises(InvalidInputError, match="no open letter matches"):
        bulks.prepare(BOB, EVERYTHING, REPLAY)
    mine = bulks.prepare(ADA, EVERYTHING, REPLAY).bulk
    assert mine.total == 2
    with pytest.raises(NotFoundError):
        bulks.start(BOB, mine.bulk_id)
    assert bulks.list(BOB).items == ()
    wrong: list[dict[str, Any]] = [{"why": " "}, {"canary": -1}]
    wrong += [{"per_second": rate} for rate in (501, 0.09, 1e-9, 0, float("nan"))]
    for order in (replace(REPLAY, **more) for more in wrong):
        with pytest.raises(InvalidInputError):
            bulks.prepare(ADA, EVERYTHING, order)
