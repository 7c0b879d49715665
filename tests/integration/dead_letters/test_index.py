"""The index of dead letters: what it says, and that it says it of every letter once."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import delete, func, select, update

from app.container import Container
from app.errors import ConflictError, ForbiddenError, NotFoundError, ProviderRefusedError
from app.jobs import letter_index
from app.jobs.contracts import ExtractFile
from app.services.dead_letter_filters import LetterFilter
from app.storage.postgres.tables import DeadLetterGroup, DeadLetterRow
from brokers import dead_feed
from brokers.jetstream.message import DeadReason
from tests.integration.dead_letters.conftest import ADA, ADMIN, BOB, Graveyard, message, payload


def rows(container: Container) -> int:
    with container.database.transaction() as session:
        return session.scalar(select(func.count()).select_from(DeadLetterRow)) or 0


def test_a_letter_is_indexed_with_its_job_and_its_owner(graves: Graveyard):
    letter = graves.one()
    job = graves.job_row(letter.job_id)
    assert (letter.owner_id, letter.arguments) == ("ada", job.arguments)
    assert (letter.actor, letter.queue, letter.pool) == (
        "extract_file", "collection-transforms", "collections",
    )  # fmt: skip
    assert letter.reason == "permanent-error"
    assert letter.error_class == "app.errors.ProviderRefusedError"
    assert "sk-" not in letter.error_message
    assert letter.cause == "the account of key ••• is frozen for <n> days"
    assert letter.expires_at is not None
    assert letter.state == "open"


def test_the_letter_of_a_stranger_has_no_job_although_its_id_is_that_of_one(graves: Graveyard):
    job_id = str(graves.job())
    strangers = message("send_mail", ExtractFile.queue, job_id=job_id)
    graves.store(strangers.copy(kwargs={}), None, DeadReason.UNKNOWN_ACTOR)
    graves.store(strangers, None, DeadReason.UNKNOWN_ACTOR)  # what a newer release has a name for
    without, truly = graves.indexed()
    assert (without.message_id, without.job_id, without.owner_id, without.arguments) == (
        job_id,
        None,
        None,
        None,
    )
    assert (str(truly.job_id), truly.owner_id) == (job_id, "ada")


def test_a_letter_that_comes_twice_and_a_rebuild_write_one_row(graves: Graveyard, container: Container):
    graves.die(number=3)
    assert len(graves.indexed()) == 3
    assert list(graves.index.rebuild()) == [(3, 0)]
    with container.database.transaction() as session:
        session.execute(delete(DeadLetterRow))
    assert list(graves.index.rebuild()) == [(3, 3)]
    assert len(graves.indexed()) == 3


def test_a_rebuild_writes_parents_before_their_children_also_where_their_page_takes_longer(
    graves: Graveyard, container: Container, monkeypatch: pytest.MonkeyPatch
):
    first = graves.one()
    child = message(ExtractFile.kind, ExtractFile.queue, job_id=str(first.job_id))
    lineage = {"dead_letter": first.sequence, "message_id": "m", "root": "m", "depth": 1}
    graves.store(child.copy(options={**child.options, "replay_of": lineage}), None, DeadReason.CRASH_LOOP)
    with container.database.transaction() as session:
        session.execute(delete(DeadLetterRow))
    monkeypatch.setattr(dead_feed, "_PAGE", 1)
    send, pauses = letter_index._copy, iter([1.0])

    def send_slowly(*given: Any) -> None:
        send(*given)
        time.sleep(next(pauses, 0))

    monkeypatch.setattr(letter_index, "_copy", send_slowly)
    assert list(graves.index.rebuild()) == [(1, 1), (2, 2)]
    parent, child_row = graves.indexed()
    assert (child_row.parent_id, child_row.depth) == (parent.dead_letter_id, 1)


def test_letters_of_one_cause_are_one_group_whose_counts_follow_every_change(
    graves: Graveyard, container: Container
):
    graves.die(number=2)
    graves.die(ProviderRefusedError("the account of key sk-zzzzzzzzzzzz is frozen for 3 days"))
    graves.die(ProviderRefusedError("no such model"))
    letters = graves.indexed()
    groups = container.services.dead_letters.groups(ADMIN)
    counts = {group.cause: group.open_count for group in groups.items}
    assert counts == {"the account of key ••• is frozen for <n> days": 3, "no such model": 1}
    assert sum(groups.items[0].curve) == groups.items[0].total_count
    assert groups.open_count == 4
    container.services.letter_acts.discard(ADMIN, letters[0].dead_letter_id, why="no more")
    assert container.services.dead_letters.groups(ADMIN).open_count == 3
    with container.database.transaction() as session:
        session.execute(update(DeadLetterRow).values(state="open"))
        session.execute(delete(DeadLetterRow).where(DeadLetterRow.cause == "no such model"))
        assert session.scalars(select(DeadLetterGroup.open_count)).all() == [3]


def test_others_see_neither_letters_nor_groups_of_an_owner(graves: Graveyard, container: Container):
    letter = graves.one()
    service = container.services.dead_letters
    assert [each.dead_letter_id for each in service.list(ADA).items] == [letter.dead_letter_id]
    assert service.list(BOB).items == ()
    assert service.groups(BOB).items == ()
    assert service.groups(BOB).open_count == 0
    with pytest.raises(NotFoundError):
        service.get(BOB, letter.dead_letter_id)
    with pytest.raises(NotFoundError):
        container.services.letter_acts.discard(BOB, letter.dead_letter_id, why="mischief")


def test_a_list_is_read_page_by_page_and_filtered(graves: Graveyard, container: Container):
    graves.die(number=3)
    graves.store(b"\x00\xff", None, DeadReason.UNDECODABLE)
    letters = graves.indexed()
    service = container.services.dead_letters
    first = service.list(ADMIN, limit=3)
    rest = service.list(ADMIN, limit=3, token=first.continuation_token)
    seen = [each.dead_letter_id for each in (*first.items, *rest.items)]
    assert seen == sorted((each.dead_letter_id for each in letters), reverse=True)
    assert not rest.has_more
    assert letters[1].arguments is not None
    file_id = letters[1].arguments["file_id"]
    for wanted, number in (
        (LetterFilter(reason="undecodable"), 1),
        (LetterFilter(actor="extract_file", queue="collection-transforms"), 3),
        (LetterFilter(argument=f"file_id={file_id}"), 1),
        (LetterFilter(job_id=str(letters[0].job_id)), 1),
        (LetterFilter(older_than=3600), 0),
        (LetterFilter(owner_id="ada", younger_than=3600, attempts=1), 3),
    ):
        assert len(service.list(ADMIN, wanted).items) == number, wanted


def test_a_payload_is_shown_without_its_secrets_and_revealed_on_record(
    graves: Graveyard, container: Container
):
    graves.die()
    secret = {"kwargs": {"password": "hunter2", "nested": [{"api_key": "k"}], "url": "https://a:b@c/"}}
    graves.store(payload(secret), None, DeadReason.UNDECODABLE)
    graves.store(b"\x00\xffPK", None, DeadReason.UNDECODABLE)
    own, readable, unreadable = graves.indexed()
    service = container.services.dead_letters
    shown = service.get(ADMIN, readable.dead_letter_id).content
    assert shown is not None
    assert shown.payload == {
        "kwargs": {"password": "•••", "nested": [{"api_key": "•••"}], "url": "https://•••@c/"}
    }
    with pytest.raises(ForbiddenError):
        service.get(ADA, own.dead_letter_id, reveal=True)
    revealed = service.get(ADMIN, readable.dead_letter_id, reveal=True).content
    assert revealed is not None
    assert revealed.payload == secret
    assert graves.acts() == [("eve", "dead_letter.revealed")]
    raw = service.get(ADMIN, unreadable.dead_letter_id).content
    assert raw is not None
    assert (raw.payload_hex, raw.content_type) == (None, "application/octet-stream")
    raw = service.get(ADMIN, unreadable.dead_letter_id, reveal=True).content
    assert raw is not None
    assert raw.payload_hex == "00 ff 50 4b"
    assert [act for _, act in graves.acts()] == ["dead_letter.revealed"] * 2
    with pytest.raises(ConflictError, match="is not a message"):
        container.services.letter_acts.replay(ADMIN, unreadable.dead_letter_id)


def test_a_stream_that_never_held_a_letter_is_compared_and_rebuilt(graves: Graveyard):
    compared = graves.index.compare()
    assert (compared.missing, compared.gone) == (0, [])
    assert list(graves.index.rebuild()) == []
