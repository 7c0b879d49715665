"""Exports are brought back: each letter once, with its line of replays, and replayable as before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import delete

from app.container import Container
from app.errors import ForbiddenError, InvalidInputError
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_export import export
from app.services.letter_import import ImportReport
from app.storage.postgres.tables import DeadLetterRow, Job
from brokers import DeadReason, dead_feed
from tests.integration.dead_letters.conftest import ADA, ADMIN, FROZEN, Graveyard, message
from tests.support.stack import delete_streams


def exported(container: Container, **wanted: Any) -> list[str]:
    letters = container.services.dead_letters
    return list(export(letters, ADMIN, LetterFilter(**wanted), payloads=True))


def bring_back(container: Container, lines: list[str], **how: Any) -> ImportReport:
    return container.services.letter_import.run(ADMIN, lines, **how)


def told(report: ImportReport) -> tuple[int, list[tuple[int, str]]]:
    return report.imported, [(one.line, one.why) for one in report.reasons]


def lose_the_stream(container: Container, nats_url: str) -> None:
    delete_streams(nats_url)
    container.apply_topology(dry_run=False)


@pytest.fixture
def line(graves: Graveyard, container: Container) -> list[str]:
    """A letter that was replayed, and one that came of it: the younger first, as exports have them."""
    first = graves.one()
    assert first.job_id is not None
    at = {"job_id": str(first.job_id), "publication": 0}
    child = message("extract_file", "collection-transforms", **at)
    lineage = {"dead_letter": first.sequence, "message_id": "m", "root": "m", "depth": 1}
    graves.store(child.copy(options={**child.options, "replay_of": lineage}), FROZEN, DeadReason.CRASH_LOOP)
    assert [each.depth for each in graves.indexed()] == [0, 1]
    return exported(container)


def test_letters_of_a_lost_stream_come_back_once_and_can_be_replayed(
    graves: Graveyard, container: Container, line: list[str], nats_url: str
):
    before = graves.indexed()
    assert told(bring_back(container, line)) == (
        0,
        [(1, "it is here, and open"), (2, "it is here, and open")],
    )
    lose_the_stream(container, nats_url)
    assert told(bring_back(container, line, dry_run=True))[0] == 0, "their rows still look open"
    assert told(bring_back(container, line)) == (2, [])
    assert bring_back(container, line).imported == 0
    after = graves.indexed()
    assert graves.waiting() == len(after) == 2
    kept = (
        "reason", "cause", "fingerprint", "job_id", "died_at", "attempts", "depth", "owner_id", "arguments",
    )  # fmt: skip
    for old, new in zip(before, after, strict=True):
        assert [getattr(new, name) for name in kept] == [getattr(old, name) for name in kept]
    assert after[1].parent_id == after[0].dead_letter_id
    content = container.services.dead_letters.get(ADMIN, after[0].dead_letter_id).content
    assert content is not None
    assert content.payload == json.loads(line[1])["content"]["payload"]
    replayed = container.services.letter_acts.replay(ADMIN, after[0].dead_letter_id)
    assert replayed.state == "replayed"
    assert told(bring_back(container, line))[1] == [
        (1, "it is here, and open"),
        (2, "it was replayed already"),
    ]
    assert ("eve", "dead_letter.imported") in graves.acts()


def test_what_is_exported_again_keeps_its_first_name_on_another_installation(
    graves: Graveyard, container: Container, line: list[str], nats_url: str
):
    lose_the_stream(container, nats_url)
    with container.database.transaction() as session:
        session.execute(delete(DeadLetterRow))
        session.execute(delete(Job))
    bring_back(container, line)
    again = exported(container)
    names = ("origin", "parent_origin", "depth")
    first, second = ([[json.loads(one)[name] for name in names] for one in some] for some in (line, again))
    assert first == second
    assert told(bring_back(container, again))[0] == 0
    assert {each.owner_id for each in graves.indexed()} == {None}, "their jobs are not here"


def test_what_is_masked_or_hidden_does_not_come_back(graves: Graveyard, container: Container, nats_url: str):
    graves.store(b"\xff\xfe\x00", None, DeadReason.UNDECODABLE)
    secret = message("extract_file", "collection-transforms", job_id="x", password="hunter2")
    graves.store(secret, FROZEN, DeadReason.PERMANENT_ERROR)
    graves.indexed()
    lines = exported(container)
    lose_the_stream(container, nats_url)
    assert told(bring_back(container, lines)) == (
        0,
        [
            (1, "secrets in its payload were masked when it was exported"),
            (2, "its payload, which is no message, was hidden when it was exported"),
        ],
    )


def test_lines_that_are_no_letters_bring_nothing_back(graves: Graveyard, container: Container):
    graves.one()
    with pytest.raises(InvalidInputError, match="line 2: the line: Invalid JSON"):
        bring_back(container, [*exported(container), "{"])
    assert dead_feed.lifetime(container.broker).messages == 1


def test_only_an_admin_may_bring_letters_back(container: Container):
    with pytest.raises(ForbiddenError, match="needs the role admin"):
        container.services.letter_import.run(ADA, [])
