"""The codes of the audit log never change their meaning: what an older release wrote is still verified."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.security.audit import GENESIS, Event, Sealer, spelled_again
from app.security.keyring import Keyring
from app.services.audit_check import Link

KEY = "5e" * 32


def event(**changed: Any) -> Event:
    told: dict[str, Any] = {
        "id": 7, "at": datetime(2026, 5, 4, 3, 2, 1, 90, tzinfo=UTC), "owner_id": "ada", "actor": 'a"d\\a ü',
        "action": "collection.changed", "object_kind": "collection", "object_id": None, "outcome": "success",
        "request_id": None, "address": "::1", "details": {"ü": [True, None], "fields": ["title"], "n": 4},
    }  # fmt: skip
    return Event(**told | changed)


def test_an_event_is_spelled_as_it_always_was():
    assert event().content() == (
        rb'["event",7,"2026-05-04T03:02:01.000090+00:00","ada","a\"d\\a \u00fc","collection.changed",'
        rb'"collection",null,"success",null,"::1",{"fields":["title"],"n":4,"\u00fc":[true,null]}]'
    )


def test_a_code_is_made_as_it_always_was():
    code = Sealer(Keyring(KEY)).seal(event(), GENESIS)
    assert code.hex() == "45e241eacd38731369ad482b7b50a155a2875611c036f20c0cd4972a24d9a820"


def test_the_same_moment_elsewhere_and_a_whole_second_have_one_spelling():
    east = timezone(timedelta(hours=2))
    assert event(at=datetime(2026, 1, 1, 2, tzinfo=east)).content()[11:38] == b'"2026-01-01T00:00:00+00:00"'


@pytest.mark.parametrize("details", [{}, {"b": 1, "a": [{"d": "x\n", "c": False}]}, {"😀": "\x7f"}])
def test_details_as_postgres_gives_them_back_are_spelled_as_they_were_written(details: dict[str, Any]):
    given_back = json.dumps(details, indent=1, ensure_ascii=False)
    assert event(details=details).content().decode().endswith(f",{spelled_again(given_back)}]")


@pytest.mark.parametrize(("fraction", "microsecond"), [("000000", 0), ("000090", 90), ("100000", 100_000)])
def test_a_row_as_postgres_spells_it_is_the_event_that_was_written(fraction: str, microsecond: int):
    written = event(at=datetime(2026, 5, 4, 3, 2, 1, microsecond, tzinfo=UTC))
    told = (written.actor, written.action, written.object_kind, None, "success", None, "::1")
    details = '{"n": 4, "ü": [true, null], "fields": ["title"]}'
    row: Any = (
        7, f"2026-05-04T03:02:01.{fraction} AD", "ada", *told, details, "key", "00" * 32, "ab" * 32
    )  # fmt: skip
    link = Link.of(row)
    assert link.content == written.content()
    assert (link.id, link.action, link.key_id, link.mac) == (7, "collection.changed", "key", b"\xab" * 32)
