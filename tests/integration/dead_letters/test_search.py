"""Dead letters are found by what somebody types, through indexes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from app.container import Container
from app.errors import ProviderRefusedError
from app.jobs.contracts import EmbedItems, ExtractFile
from app.security.principal import Principal
from app.services.dead_letter_filters import LetterFilter
from app.storage.postgres.tables import DeadLetterRow, File
from tests.integration.dead_letters.conftest import ADA, ADMIN, BOB, FROZEN, Graveyard


def about(graves: Graveyard, name: str, error: Exception = FROZEN) -> int:
    """Id of the letter of a job about a file of this name."""
    contract = ExtractFile(graves.transform, graves.world.file(graves.collection, name), 1)
    with graves.container.database.transaction() as session:
        job_id = graves.container.outbox.record(session, contract, owner_id=graves.world.owner_id)
    graves.bury(job_id, error)
    return graves.indexed()[-1].dead_letter_id


def found(graves: Graveyard, words: str, who: Principal = ADMIN) -> list[int]:
    page = graves.container.services.dead_letters.list(who, LetterFilter(search=words))
    return [one.dead_letter_id for one in page.items]


def test_a_letter_is_found_by_words_of_its_error_document_kind_and_owner(graves: Graveyard):
    frozen = about(graves, "Jahresbericht_2024 (final).pdf")
    slow = about(graves, "notes.txt", ProviderRefusedError("the model 'Ärmel-7' is too slow"))
    assert found(graves, "frozen") == [frozen]
    assert found(graves, "jahresbericht 2024") == [frozen]
    assert found(graves, "JAHRES FINAL pdf") == [frozen]  # words may go on
    assert found(graves, "202") == []  # numbers may not
    assert found(graves, "bericht") == []  # and none begins in the middle
    assert found(graves, "Ärmel 7") == [slow]
    assert found(graves, "extract_file ada") == [slow, frozen]
    assert found(graves, "refused slow frozen") == []


def test_a_letter_is_found_by_any_id_of_it(graves: Graveyard):
    first, second = graves.some(2)
    for id_ in (first.dead_letter_id, first.job_id, first.message_id):
        assert found(graves, str(id_)) == [first.dead_letter_id]
    assert found(graves, first.fingerprint) == [second.dead_letter_id, first.dead_letter_id]


def test_a_search_finds_nothing_of_others(graves: Graveyard):
    key = about(graves, "secret plans.pdf")
    assert found(graves, "secret", ADA) == [key]
    assert found(graves, "secret", BOB) == found(graves, str(key), BOB) == []


def test_the_items_of_a_batch_name_its_letter(graves: Graveyard):
    world = graves.world
    dataset = world.dataset()
    items = tuple(world.item(dataset, title=title) for title in ("One", "Two", "Three", "Four"))
    with graves.container.database.transaction() as session:
        job_id = graves.container.outbox.record(session, EmbedItems(1, "b", items), owner_id="ada")
    graves.bury(job_id, FROZEN)
    document = graves.indexed()[-1].document or ""
    assert re.sub(r" \w{6}\b", "", document) == "One, Two, Three"


def test_words_longer_than_an_index_takes_and_odd_characters_are_indexed(graves: Graveyard):
    name = "\U0001f40b" * 240 + ".txt"
    key = about(graves, name, ProviderRefusedError("ü" * 900 + ' \\ \' "x" {y}'))
    assert found(graves, "ü" * 150) == found(graves, "x y") == found(graves, "\U0001f40b" * 100) == [key]


def test_what_an_older_release_indexed_gets_its_words_from_the_sweep_and_the_rebuild(
    graves: Graveyard, container: Container
):
    for repair in (container.letter_index.compare, lambda: list(container.letter_index.rebuild())):
        key = about(graves, "minutes.pdf")
        with container.database.transaction() as session:
            session.execute(update(DeadLetterRow).values(words=None, document=None))
        assert found(graves, "minutes") == []
        repair()
        assert found(graves, "minutes frozen ada")[0] == key
        assert graves.indexed()[-1].document == "minutes.pdf"
        with container.database.transaction() as session:
            session.execute(delete(DeadLetterRow))
            session.execute(update(File).values(name=File.object_key))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"search": "frozen"}, "ix_dead_letters_words"),
        ({"queue": "nobody"}, "ix_dead_letters_queue"),
        ({"attempts": 6}, "ix_dead_letters_attempts"),
    ],
)
def test_what_is_asked_for_can_be_answered_by_an_index(
    container: Container, wanted: dict[str, Any], index: str
):
    asked = select(DeadLetterRow.dead_letter_id).where(*LetterFilter(state=None, **wanted).conditions())
    with container.database.transaction() as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        compiled = asked.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        plan = "\n".join(session.execute(text(f"EXPLAIN {compiled}".replace(":", "\\:"))).scalars())
    assert index in plan
