"""Who dies in the middle of a replay has sent it all the same, and its job may go on before anybody looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dramatiq.errors import ConnectionClosed
from sqlalchemy import select

from app.container import Container
from app.errors import ConflictError, UnavailableError
from app.services import bulk_runs
from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetterView
from app.services.job_replay import revive
from app.services.letter_bulks import BulkOrder
from app.storage.postgres.tables import DeadLetterBulkItem, Job
from brokers import inspect
from brokers.jetstream import dead_records
from tests.integration.dead_letters.conftest import ADMIN, Graveyard, as_

Die = Callable[[DeadLetterView], None]
_LONGEST_WHY = "w" * 1000


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Die:
    """Let whoever replays a letter die once its message is stored, before anything is on record."""

    def arrange(last: DeadLetterView) -> None:
        end_seen = dead_records.end_seen

        async def die(session: Any, letter: Any, *place: Any, **told: Any) -> None:
            if letter.id == last.sequence:
                monkeypatch.setattr(dead_records, "end_seen", end_seen)
                raise ConnectionClosed("the process is gone")  # type: ignore[no-untyped-call]  # Dramatiq's
            await end_seen(session, letter, *place, **told)

        monkeypatch.setattr(dead_records, "end_seen", die)

    return arrange


def go_on(container: Container, letters: list[DeadLetterView]) -> None:
    """As workers do when the messages of replays arrive."""
    for letter in letters:
        assert letter.job_id is not None
        assert revive(container.services.jobs, letter.job_id, publication=1)


def begun(container: Container, order: BulkOrder) -> int:
    bulks = container.services.letter_bulks
    bulk_id = bulks.prepare(ADMIN, LetterFilter(), order).bulk.bulk_id
    bulks.start(ADMIN, bulk_id)
    return bulk_id


def counts(container: Container, bulk_id: int) -> tuple[str, int, int, int]:
    bulk = container.services.letter_bulks.get(ADMIN, bulk_id)
    return bulk.state, bulk.done, bulk.skipped, bulk.failed


def ready(container: Container) -> int:
    return sum(depth.ready for depth in inspect.depths(container.broker))


def test_what_a_killed_bulk_worker_had_sent_counts_as_done_though_its_jobs_have_gone_on(
    graves: Graveyard, container: Container, die_at: Die
):
    letters = graves.some(4)
    bulk_id = begun(container, BulkOrder("replay", _LONGEST_WHY, per_second=500))
    die_at(letters[-1])
    container.bulk_runs.run_next()
    assert (counts(container, bulk_id), ready(container)) == (("running", 0, 0, 0), 4)
    go_on(container, letters)
    container.bulk_runs.run_next()
    assert counts(container, bulk_id) == ("finished", 4, 0, 0)
    assert (ready(container), graves.waiting()) == (4, 0)
    with container.database.transaction() as session:
        assert len(set(session.scalars(select(DeadLetterBulkItem.detail)))) == 4
    assert {one.bulk_id for one in graves.indexed(state="replayed")} == {bulk_id}


def test_a_replay_is_asked_for_again_after_its_sender_died_and_its_job_went_on(
    graves: Graveyard, container: Container, die_at: Die
):
    letters, acts = graves.some(2), container.services.letter_acts
    for letter in letters:
        die_at(letter)
        with pytest.raises(UnavailableError):
            acts.replay(ADMIN, letter.dead_letter_id, why="paid")
    go_on(container, letters)
    done = [acts.replay(ADMIN, letter.dead_letter_id, why="paid") for letter in letters]
    assert [(one.state, one.ended_by) for one in done] == [("replayed", "eve")] * 2
    assert len({one.successor_message_id for one in done}) == 2
    with as_("bob"), pytest.raises(ConflictError, match="was replayed by eve already"):
        acts.replay(ADMIN, letters[1].dead_letter_id)
    assert (ready(container), graves.waiting()) == (2, 0)


def test_many_letters_that_need_no_sending_are_written_down_on_the_way(
    graves: Graveyard, container: Container, monkeypatch: pytest.MonkeyPatch
):
    letters, seen = graves.some(6), list[int]()
    bulk_id = begun(container, BulkOrder("replay", "hope", per_second=10))
    with container.database.transaction() as session:
        for letter in letters:
            session.delete(session.get_one(Job, letter.job_id))
    monkeypatch.setattr(bulk_runs, "_MOST_DOUBTFUL", 1)

    def look() -> bool:
        seen.append(counts(container, bulk_id)[2])
        return True

    container.bulk_runs.run_next(look)
    assert 0 < seen[-1] < 6, "others would take the lease for abandoned"
    assert counts(container, bulk_id) == ("finished", 0, 6, 0)


@pytest.mark.parametrize(("canary", "state", "done"), [(0, "finished", 5), (3, "paused", 3)])
def test_a_large_bulk_replay_is_done_in_several_goes(
    graves: Graveyard,
    container: Container,
    monkeypatch: pytest.MonkeyPatch,
    canary: int,
    state: str,
    done: int,
):
    graves.some(5)
    monkeypatch.setattr(bulk_runs, "_MOST_SENT", 2)
    bulk_id = begun(container, BulkOrder("replay", "paid", per_second=500, canary=canary))
    container.bulk_runs.run_next()
    assert (counts(container, bulk_id), ready(container)) == ((state, done, 0, 0), done)
