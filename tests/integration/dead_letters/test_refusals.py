"""Addresses and forms that no page of ours makes: refused with the field and its rule, or told about."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from app.container import Container
from app.factory import create_app
from app.security.principal import SINGLE_USER
from brokers import DeadReason
from tests.integration.dead_letters.conftest import Graveyard
from tests.support.domain import World

LIST = "/admin/dead-letters/list/"
UNSTORABLE = "must not hold NUL"
OWN = {"Sec-Fetch-Site": "same-origin"}

FILTERS = [
    ("worker", "\0", UNSTORABLE),
    ("argument", "x=NaN", "without end, nor NaN"),
    ("argument", "x=1e400", "without end, nor NaN"),
    ("argument", 'x=["\\u0000"]', UNSTORABLE),
    ("argument", 'x={"\\ud800": 1}', UNSTORABLE),
    ("argument", "." * 3000 + "x=1", "most 500 characters"),
    ("attempts", "9" * 20, "1000000"),
    ("younger_than", "nan", None),
]
ADDRESSES = [
    (f"{LIST}?page=-1", 400, "page must be a number from 0 to"),
    (f"{LIST}?page=99999999999999999999", 400, "page must be a number from 0 to"),
    (f"{LIST}export/xlsx/", 404, "no export as xlsx"),
    ("/admin/jobs/export/xlsx/", 404, "no export as xlsx"),
    ("/admin/jobs/?page=-1", 400, "page must be a number from 0 to"),
    (f"{LIST}export/csv/", 200, "Ended By"),
]
BULKS = [
    ({"canary": "999999999999"}, "canary must be at most 100000"),
    ({"canary": "-1"}, "canary must not be negative"),
    ({"per_second": "nan"}, "per_second must lie between 0.1 and 500"),
    ({"why": "a\0b"}, "why must not hold NUL"),
    ({"filter-worker": "a\0"}, "worker must not hold NUL"),
    ({"filter-argument": "x=NaN"}, "argument must not hold a number without end"),
    ({"filter-nonsense": "1"}, "nonsense is no field"),
    ({"filter-attempts": "9" * 20}, "attempts must lie between 0 and 1000000"),
]


@pytest.fixture
def client(container: Container) -> Any:
    return create_app(container).test_client()


@pytest.fixture
def letter(container: Container) -> str:
    mine = Graveyard(container, World(container.database, SINGLE_USER.owner_id))
    mine.die()
    return f"/admin/dead-letters/{mine.indexed()[0].dead_letter_id}"


def said(answer: Any) -> str:
    """The words of a page, as a line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_a_filter_that_nothing_can_have_is_told_about_in_the_panel_and_refused_by_the_api(
    client: Any, letter: str
):
    for field, value, rule in FILTERS:
        page = client.get(f"{LIST}?flt0_{field}={quote(value)}")
        assert (page.status_code, "was left out of the filter" in said(page)) == (200, True), field
        answer = client.get(f"/api/dead-letters?{field}={quote(value)}")
        assert (answer.status_code, answer.json["field"]) == (400, field), value
        assert (rule or field) in answer.json["message"] + str(answer.json), value
    for path in ("/admin/jobs/?flt0_job_id=%00", "/admin/jobs/?flt0_kind=%00"):
        assert client.get(path).status_code == 200, path


def test_addresses_of_no_page_are_refused_with_the_rule(client: Any, letter: str):
    for path, status, words in ADDRESSES:
        answer = client.get(path)
        assert (answer.status_code, words in said(answer)) == (status, True), path


def test_forms_that_cannot_be_meant_are_refused_with_field_and_rule(client: Any, letter: str):
    good = {"act": "replay", "why": "x", "filter-state": "open"}
    sent = [("/admin/dead-letters/bulks/", good | more, words) for more, words in BULKS]
    sent += [(f"{letter}/{act}", {"why": "a\0b"}, "why must not hold NUL") for act in ("discard", "replay")]
    for path, form, words in sent:
        answer = client.post(path, data=form, headers=OWN)
        assert (answer.status_code, words in said(answer)) == (400, True), (path, form, said(answer)[-300:])


def test_arguments_that_cannot_be_stored_are_refused_beside_the_field(client: Any, letter: str):
    typed = {
        '{"file_id": 1, "keys": ["\\u0000"]}': "arguments must not hold NUL",
        '{"file_id": NaN}': "arguments must not hold a number without end",
        '{"file_id": 99999999999999999999999}': "extract_file needs",
    }
    for text, words in typed.items():
        answer = client.post(f"{letter}/edit", data={"arguments": text}, headers=OWN)
        assert (answer.status_code, words in said(answer)) == (400, True), (text, said(answer)[-300:])


def test_bytes_that_are_no_message_are_hidden_on_the_page_until_they_are_revealed(
    client: Any, container: Container
):
    graves = Graveyard(container, World(container.database, SINGLE_USER.owner_id))
    graves.store(b'{"kwargs": {"password": "hunter2"', None, DeadReason.UNDECODABLE)
    path = f"/admin/dead-letters/{graves.indexed()[-1].dead_letter_id}"
    secret = b"hunter2".hex(" ")
    shown, revealed = client.get(path), client.post(f"{path}/reveal", headers=OWN)
    assert "Its bytes are hidden" in said(shown)
    assert (secret in shown.text, secret in revealed.text) == (False, True)
    assert [act for _, act in graves.acts()] == ["dead_letter.revealed"]
