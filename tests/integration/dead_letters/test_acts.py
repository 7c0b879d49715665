"""Acts on one letter: replay, edit, discard, undo, expiry; each once, and on record."""

from __future__ import annotations

from typing import Any

import pytest
from dramatiq.message import Message
from sqlalchemy import delete, func, update

from app.container import Container
from app.errors import ConflictError, InvalidInputError
from app.jobs.contracts import DeleteObjects
from app.services.job_replay import revive
from app.services.letter_acts import LetterActs
from app.storage.postgres.tables import DeadLetterRow, Job
from brokers import dead_letter
from brokers.jetstream import replaying
from brokers.jetstream.replaying import Replayed
from tests.integration.dead_letters.conftest import ADMIN, FROZEN, Graveyard, as_
from tests.support.domain import World


@pytest.fixture
def acts(container: Container) -> LetterActs:
    return container.services.letter_acts


def ready(container: Container) -> int:
    from brokers import inspect

    return sum(depth.ready for depth in inspect.depths(container.broker))


def change(container: Container, **values: Any) -> None:
    with container.database.transaction() as session:
        session.execute(update(DeadLetterRow).values(**values))


def test_a_replayed_letter_sends_its_message_once_and_says_who_did_it(
    graves: Graveyard, acts: LetterActs, container: Container
):
    letter = graves.one()
    done = acts.replay(ADMIN, letter.dead_letter_id, why="the account is paid")
    assert (done.state, done.ended_by, done.ended_why) == ("replayed", "eve", "the account is paid")
    assert done.successor_message_id
    assert (ready(container), graves.waiting()) == (1, 0)
    with pytest.raises(ConflictError, match="was replayed by eve already"):
        acts.replay(ADMIN, letter.dead_letter_id)
    assert graves.acts() == [("eve", "dead_letter.replayed")]


def test_a_replay_that_died_before_it_was_written_down_is_found_and_not_repeated(
    graves: Graveyard, acts: LetterActs, container: Container
):
    first, second = graves.some(2)
    for sequence in (1, 2):
        dead_letter.replay(container.broker, sequence, by="mallory", why="by hand")
    with pytest.raises(ConflictError, match="replayed"):
        acts.replay(ADMIN, first.dead_letter_id)
    assert container.services.letter_ends.repair() == 1
    states = [(each.state, each.ended_by) for each in graves.indexed(state=None)]
    assert states == [("replayed", "mallory")] * 2
    assert container.services.letter_ends.repair() == 0
    assert ready(container) == 2
    assert second.state == "open"


def test_a_replay_that_would_start_nothing_is_refused_with_the_reason(
    graves: Graveyard, acts: LetterActs, container: Container
):
    gone, alive = graves.some(2)
    with container.database.transaction() as session:
        session.execute(delete(Job).where(Job.job_id == gone.job_id))
        session.execute(update(Job).where(Job.job_id == alive.job_id).values(state="running"))
    with pytest.raises(ConflictError, match="the job is gone"):
        acts.replay(ADMIN, gone.dead_letter_id)
    with pytest.raises(ConflictError, match="the job is running"):
        acts.replay(ADMIN, alive.dead_letter_id)
    assert graves.waiting() == 2


def test_of_two_who_replay_a_letter_at_once_one_is_on_record(
    graves: Graveyard, acts: LetterActs, container: Container, monkeypatch: pytest.MonkeyPatch
):
    letter, store = graves.one(), replaying.replay
    stored = dead_letter.get(container.broker, letter.sequence)

    def store_after_frank(*args: Any) -> Any:
        monkeypatch.setattr(replaying, "replay", store)
        with as_("frank"):
            acts.replay(ADMIN, letter.dead_letter_id, why="paid")
        # What the broker answers to whoever read the letter before it went, and found the mark.
        return {letter.sequence: Replayed(Message.decode(stored.payload or b""), stored=False)}

    monkeypatch.setattr(replaying, "replay", store_after_frank)
    with pytest.raises(ConflictError, match="was replayed by frank already"):
        acts.replay(ADMIN, letter.dead_letter_id, why="hope")
    assert graves.acts() == [("frank", "dead_letter.replayed")]
    assert graves.indexed(state="replayed")[0].ended_why == "paid"


def test_a_letter_of_a_replay_knows_its_parent_and_the_line_has_an_end(
    graves: Graveyard, acts: LetterActs, container: Container
):
    letter = graves.one()
    for depth in range(1, 6):
        acts.replay(ADMIN, letter.dead_letter_id)
        (message,) = messages(container)
        assert letter.job_id is not None
        assert revive(container.services.jobs, letter.job_id, publication=depth)
        graves.store(message, FROZEN, letter_reason())
        with container.database.transaction() as session:
            container.services.jobs.bury(session, letter.job_id, FROZEN, publication=depth)
        (child,) = graves.indexed()
        assert (child.parent_id, child.depth, child.job_id) == (letter.dead_letter_id, depth, letter.job_id)
        letter = child
    with pytest.raises(ConflictError, match="comes of 5 replays that all died"):
        acts.replay(ADMIN, letter.dead_letter_id)
    lineage = container.services.dead_letters.get(ADMIN, letter.dead_letter_id).lineage
    assert [each.depth for each in lineage] == [0, 1, 2, 3, 4, 5]


def messages(container: Container) -> list[Any]:
    """Take what waits in the queue."""
    from dramatiq.message import Message

    from brokers.jetstream import browse

    broker = container.broker
    session = broker.connection.session()
    stream, subject = "COLLECTION_TRANSFORMS", "transforms.ready.collection-transforms"
    subject = f"{broker.options.subject_root}.ready.collection-transforms"

    async def take() -> list[Any]:
        found = []
        while (stored := await browse.one(session, stream, last_by_subj=subject)) is not None:
            found.append(Message.decode(stored.payload or b""))
            await browse.delete(session, stream, stored.sequence)
        return found

    return broker.connection.run(take())


def letter_reason() -> Any:
    from brokers import DeadReason

    return DeadReason.PERMANENT_ERROR


def test_edited_arguments_are_held_to_the_contract_and_start_a_job_that_is_linked(
    graves: Graveyard, acts: LetterActs, container: Container
):
    letter = graves.one()
    assert letter.arguments is not None
    edited = letter.arguments | {"file_version": 2}
    preview = acts.check_edit(ADMIN, letter.dead_letter_id, edited)
    assert [(each.path, each.before, each.after) for each in preview.changes] == [("file_version", 1, 2)]
    done = acts.edit_and_replay(ADMIN, letter.dead_letter_id, edited, why="a newer file")
    assert done.job_id is not None
    new = graves.job_row(done.job_id)
    assert (new.arguments, new.owner_id, new.state) == (edited, "ada", "pending")
    assert graves.job_row(letter.job_id).state == "dead"
    assert (done.letter.arguments, done.letter.edited_arguments) == (letter.arguments, edited)
    assert graves.waiting() == 0
    graves.bury(done.job_id, FROZEN)
    (child,) = graves.indexed()
    assert (child.parent_id, child.depth) == (letter.dead_letter_id, 1)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"file_version": "2"}, "file_version must be of type int"),
        ({"file_version": True}, "file_version must be of type int"),
        ({"colour": 1}, "takes collection_transform_id, file_id, file_version, not colour"),
        ({"file_id": None}, "file_id must be of type int"),
        ({}, "nothing was changed"),
    ],
)
def test_an_edit_that_no_contract_allows_is_refused(
    graves: Graveyard, acts: LetterActs, edit: dict[str, Any], complaint: str
):
    letter = graves.one()
    assert letter.arguments is not None
    with pytest.raises(InvalidInputError, match=complaint):
        acts.edit_and_replay(ADMIN, letter.dead_letter_id, letter.arguments | edit)
    assert graves.indexed()[0].state == "open"


def test_no_edit_names_what_belongs_to_somebody_else_or_makes_clean_up_delete_more(
    graves: Graveyard, acts: LetterActs, container: Container
):
    letter = graves.one()
    other = World(container.database, "bob")
    foreign = other.file(other.collection())
    assert letter.arguments is not None
    with pytest.raises(InvalidInputError, match="file_id names what the job's owner does not have"):
        acts.edit_and_replay(ADMIN, letter.dead_letter_id, letter.arguments | {"file_id": foreign})
    with container.database.transaction() as session:
        job = container.outbox.record(session, DeleteObjects(("files/1",)), owner_id="ada")
    graves.bury(job, FROZEN)
    with pytest.raises(ConflictError, match="clean up what they name"):
        acts.edit_and_replay(ADMIN, graves.indexed()[-1].dead_letter_id, {"keys": ["files/2"]})


def test_a_discard_needs_a_reason_can_be_undone_and_is_final_after_that(
    graves: Graveyard, acts: LetterActs, container: Container
):
    letter = graves.one()
    key = letter.dead_letter_id
    with pytest.raises(InvalidInputError, match="say why"):
        acts.discard(ADMIN, key, why=" ")
    done = acts.discard(ADMIN, key, why="a test file")
    assert (done.state, done.ended_why) == ("discarded", "a test file")
    assert container.services.letter_ends.keep() == 0
    assert acts.undo(ADMIN, key).state == "open"
    acts.discard(ADMIN, key, why="a test file after all")
    change(container, undo_until=func.now())
    with pytest.raises(ConflictError, match="can no longer be undone"):
        acts.undo(ADMIN, key)
    assert graves.waiting() == 1
    assert container.services.letter_ends.keep() == 1
    assert graves.waiting() == 0
    detail = container.services.dead_letters.get(ADMIN, key)
    assert detail.content is None
    assert "discarded by eve" in (detail.content_gone or "")
    verbs = [action for _, action in graves.acts()]
    assert verbs == ["dead_letter.discarded", "dead_letter.restored", "dead_letter.discarded"]


def test_an_expired_letter_leaves_a_tombstone_and_those_about_to_expire_unread_are_counted(
    graves: Graveyard, container: Container, caplog: pytest.LogCaptureFixture
):
    letter = graves.one()
    service = container.services.dead_letters
    assert service.groups(ADMIN).expiring_unread == 0
    change(container, expires_at=func.now() + func.make_interval(0, 0, 0, 1))
    assert service.groups(ADMIN).expiring_unread == 1
    change(container, expires_at=func.now() - func.make_interval(0, 0, 0, 1))
    assert container.services.letter_ends.keep() == 1
    assert "1 dead letters expired, 1 of which nobody had opened" in caplog.text
    assert service.list(ADMIN).items == ()
    (tombstone,) = graves.indexed(state="expired")
    assert (tombstone.dead_letter_id, tombstone.cause) == (letter.dead_letter_id, letter.cause)


def test_letters_of_a_stream_that_was_made_anew_are_not_taken_for_its_new_ones(
    graves: Graveyard, acts: LetterActs, container: Container
):
    old = graves.one()
    change(container, stream_life="another")
    new = graves.one()
    with pytest.raises(ConflictError, match="gone with its stream"):
        acts.replay(ADMIN, old.dead_letter_id)
    assert container.services.letter_ends.repair() == 1  # the old letter of this stream has no row
    states = {each.dead_letter_id: each.state for each in graves.indexed(state=None)}
    assert (states[old.dead_letter_id], states[new.dead_letter_id]) == ("expired", "open")
