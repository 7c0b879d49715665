"""Letters whose work is done elsewhere or later; bulk discards taken back; what reading changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, update

from app.container import Container
from app.errors import ConflictError, InvalidInputError, NotFoundError
from app.jobs.policy import Policies
from app.jobs.reconcile import Reconciler
from app.security.principal import Principal
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from app.services.letter_moves import Destination, LetterMoves
from app.storage.postgres.tables import DeadLetterRow, Job
from brokers import dead_letter
from tests.integration.dead_letters.conftest import ADMIN, BOB, FROZEN, Graveyard
from tests.support.domain import Recorder

OWN, PLAN = "extract_file", "plan_collection_transform"


@pytest.fixture
def moves(container: Container) -> LetterMoves:
    return container.services.letter_moves


def in_hours(number: float) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


def test_a_delayed_letter_starts_its_job_at_its_time_even_if_its_message_is_lost(
    graves: Graveyard, moves: LetterMoves, container: Container, recorder: Recorder
):
    letter, at = graves.one(), in_hours(2)
    done = moves.delay(ADMIN, letter.dead_letter_id, at, why="the provider is back by then")
    assert (done.state, done.successor_job_id) == ("replayed", letter.job_id)
    job = graves.job_row(letter.job_id)
    assert (job.state, job.attempt, job.not_before) == ("pending", 0, at)
    assert graves.waiting() == 0
    (sent,) = recorder.sent[-1:]
    assert (sent.job_id, sent.publication) == (letter.job_id, job.publication)
    assert 7100 < sent.delay_seconds <= 7200
    with container.database.transaction() as session:  # its message was never stored
        session.execute(update(Job).values(updated_at=func.now() - timedelta(hours=1)))
    Reconciler(container.database, recorder, policies=Policies(60)).run()
    (again,) = recorder.sent[-1:]
    assert again.publication == sent.publication + 1
    assert 7000 < again.delay_seconds <= 7200
    with pytest.raises(ConflictError, match="was replayed by eve already"):
        moves.delay(ADMIN, letter.dead_letter_id, at)
    assert graves.acts() == [("eve", "dead_letter.moved")]


def test_a_delayed_message_is_scheduled_on_its_queue_and_not_missed_before_its_time(
    graves: Graveyard, moves: LetterMoves, container: Container
):
    from app.jobs.outbox import Outbox
    from brokers import inspect

    letter = graves.one()
    real = LetterMoves(
        moves.database, moves.trail, Outbox(container.dispatcher), moves.ends, moves.max_replays
    )
    real.delay(ADMIN, letter.dead_letter_id, in_hours(48))
    (depth, *_) = inspect.depths(container.broker)
    assert (depth.ready, depth.scheduled) == (0, 1)
    expected_by = graves.job_row(letter.job_id).expected_by
    assert expected_by is not None
    assert expected_by > in_hours(48)


def test_the_letter_of_a_moved_job_names_the_one_before_it(graves: Graveyard, moves: LetterMoves):
    letter = graves.one()
    for depth in (1, 2):
        moves.delay(ADMIN, letter.dead_letter_id, in_hours(1))
        assert letter.job_id is not None
        publication = graves.job_row(letter.job_id).publication
        graves.bury(letter.job_id, FROZEN, publication=publication)
        (child,) = graves.indexed()
        assert (child.parent_id, child.depth) == (letter.dead_letter_id, depth)
        letter = child


def test_a_letter_from_a_wrong_queue_goes_on_at_the_right_one(
    graves: Graveyard, moves: LetterMoves, recorder: Recorder
):
    letter = graves.one()
    _place(graves, letter.dead_letter_id, actor="extract_files", queue="files")
    assert moves.destinations(ADMIN, letter.dead_letter_id) == (
        Destination(OWN, "collection-transforms", same_job=True),
        Destination(PLAN, "collection-transforms", same_job=False),
    )
    moves.reroute(ADMIN, letter.dead_letter_id, OWN)
    assert (recorder.sent[-1].kind, recorder.sent[-1].queue) == (OWN, "collection-transforms")
    assert graves.job_row(letter.job_id).state == "pending"
    assert moves.destinations(ADMIN, letter.dead_letter_id) == ()


def _place(graves: Graveyard, key: int, **values: Any) -> None:
    with graves.container.database.transaction() as session:
        session.execute(update(DeadLetterRow).where(DeadLetterRow.dead_letter_id == key).values(**values))


def test_another_kind_takes_the_work_as_a_new_job_of_the_same_owner(graves: Graveyard, moves: LetterMoves):
    letter = graves.one()
    done = moves.reroute(ADMIN, letter.dead_letter_id, PLAN, why="the file has a newer version")
    new = graves.job_row(done.successor_job_id)
    assert letter.arguments is not None
    wanted = {"collection_transform_id": letter.arguments["collection_transform_id"]}
    assert (new.kind, new.arguments, new.owner_id) == (PLAN, wanted, "ada")
    assert graves.job_row(letter.job_id).state == "dead"
    assert graves.waiting() == 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"to": "embed_items"}, "does not take this letter's work; what does: plan_collection_transform"),
    ({"to": OWN}, "'extract_file' does not take"),
    ({"to": PLAN, "at": in_hours(1)}, "only for the letter's own job"),
    ({"at": in_hours(-1)}, "at must lie in the future"),
    ({"at": in_hours(24 * 31)}, "at most 30 days away"),
    ({"at": datetime(2030, 1, 1)}, "at must say its time zone"),  # noqa: DTZ001
]


def test_a_move_that_cannot_be_is_refused_and_changes_nothing(graves: Graveyard, moves: LetterMoves):
    letter = graves.one()
    for act, complaint in REFUSED:
        verb = moves.reroute if "to" in act else moves.delay
        with pytest.raises(InvalidInputError, match=complaint):
            verb(ADMIN, letter.dead_letter_id, **act)
    assert (graves.indexed()[0].state, graves.waiting()) == ("open", 1)


def test_a_move_that_would_start_nothing_or_is_not_ones_own_is_refused(
    graves: Graveyard, moves: LetterMoves, container: Container
):
    letter = graves.one()
    with pytest.raises(NotFoundError):
        moves.delay(BOB, letter.dead_letter_id, in_hours(1))
    with container.database.transaction() as session:
        session.execute(update(Job).values(state="succeeded"))
    with pytest.raises(ConflictError, match="would start nothing: the job is succeeded"):
        moves.delay(ADMIN, letter.dead_letter_id, in_hours(1))
    assert graves.indexed()[0].state == "open"


def test_a_replay_that_was_on_its_way_when_its_letter_was_moved_starts_nothing(
    graves: Graveyard, moves: LetterMoves, container: Container
):
    letter = graves.one()
    assert letter.job_id is not None
    dead_letter.replay(container.broker, letter.sequence)  # sent, and not written down yet
    moves.delay(ADMIN, letter.dead_letter_id, in_hours(1))
    assert container.services.jobs.begin(letter.job_id, "w", publication=1) is None


def test_a_bulk_discard_is_taken_back_as_a_whole_while_that_is_possible(
    graves: Graveyard, container: Container
):
    graves.die(number=4)
    letters = graves.indexed()
    bulks = container.services.letter_bulks
    bulk_id = bulks.prepare(ADMIN, LetterFilter(), BulkOrder("discard", "a mistake")).bulk.bulk_id
    with pytest.raises(ConflictError, match="is no discard that has ended"):
        bulks.undo(ADMIN, bulk_id)
    bulks.start(ADMIN, bulk_id)
    container.bulk_runs.run_next()
    with container.database.transaction() as session:  # one is too old
        late = DeadLetterRow.dead_letter_id == letters[0].dead_letter_id
        session.execute(update(DeadLetterRow).where(late).values(undo_until=func.now()))
    assert bulks.preview(ADMIN, bulk_id).can_be_undone
    done = bulks.undo(ADMIN, bulk_id)
    assert (done.restored, done.bulk.note) == (3, "3 discards undone by eve")
    assert [each.dead_letter_id for each in graves.indexed()] == [each.dead_letter_id for each in letters[1:]]
    assert container.services.dead_letters.groups(ADMIN).open_count == 3
    assert not bulks.preview(ADMIN, bulk_id).can_be_undone
    with pytest.raises(ConflictError, match=r"can be undone \(any more\)"):
        bulks.undo(ADMIN, bulk_id)
    assert ("eve", "dead_letter_bulk.undone") in graves.acts()


def test_only_saying_so_makes_a_letter_read(graves: Graveyard, container: Container):
    letter, letters = graves.one(), container.services.dead_letters
    letters.get(ADMIN, letter.dead_letter_id)
    assert graves.indexed()[0].read_at is None
    with pytest.raises(NotFoundError):
        letters.mark_read(Principal("bob", "Bob"), letter.dead_letter_id)
    letters.mark_read(ADMIN, letter.dead_letter_id)
    first = graves.indexed()[0].read_at
    assert first is not None
    letters.mark_read(ADMIN, letter.dead_letter_id)
    assert graves.indexed()[0].read_at == first
