from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import InvalidInputError
from app.services.letter_lines import letter_of_line, parsed

CONTENT: dict[str, Any] = {
    "payload": {"options": {"replay_of": {"depth": 2}}},
    "payload_hex": None,
    "trace": "Traceback",
    "attempts": [],
    "origin_stream": "S",
    "origin_sequence": 3,
}
GOOD = {
    **dict.fromkeys(("parent_origin", "actor", "message_id", "error_class", "trace_id")),
    "origin": "2026-01-01T00:00:00Z:7",
    "state": "open",
    "reason": "crash-loop",
    "queue": "q",
    "error_message": "",
    "worker": "w",
    "size_bytes": 2,
    "died_at": "2026-01-01T00:00:00+00:00",
    "depth": 2,
    "content": CONTENT,
}


def lines(*changes: dict[str, Any]) -> list[str]:
    made = ({**GOOD, **change} for change in changes)
    return [json.dumps({key: value for key, value in one.items() if value is not ...}) for one in made]


def test_a_line_is_read_back_as_the_letter_that_it_was():
    (line,) = parsed(["\n", *lines({"trace_id": "a" * 32})], most=1)
    assert (line.number, line.hindrance) == (2, None)
    assert line.letter.content is not None
    letter = letter_of_line(line.letter, line.letter.content)
    assert json.loads(letter.payload or b"") == CONTENT["payload"]
    assert (letter.replays, letter.truncated_bytes, letter.traceparent) == (
        2, 0, f"00-{'a' * 32}-0000000000000001-00",
    )  # fmt: skip


def test_what_was_cut_off_in_the_export_is_told():
    (line,) = parsed(lines({"size_bytes": 9, "content": CONTENT | {"payload_hex": "ff fe"}}), most=1)
    assert line.letter.content is not None
    letter = letter_of_line(line.letter, line.letter.content)
    assert (letter.payload, letter.truncated_bytes) == (b"\xff\xfe", 7)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "expired"}, "it was expired when it was exported"),
        ({"content": None}, "it had left its stream"),
        ({"content": CONTENT | {"payload": {"password": "•••"}}}, "secrets in its payload were masked"),
    ],
)
def test_some_lines_cannot_be_brought_back(change: dict[str, Any], why: str):
    (line,) = parsed(lines(change), most=1)
    assert why in (line.hindrance or "")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"content": ...}, "line 2: content: Field required: export with payloads"),
        ({"died_at": "yesterday"}, "line 2: died_at: Input should be a valid datetime"),
        ({"died_at": "2026-01-01T00:00:00"}, "line 2: died_at: Input should have timezone"),
        ({"origin": "7"}, "line 2: origin: String should match"),
        ({"worker": "a\r\nDead-Reason: b"}, "line 2: worker: String should match"),
        ({"depth": -1}, "line 2: depth: Input should be greater"),
        ({"content": {"payload": 1}}, "line 2: content.payload_hex: Field required"),
    ],
)
def test_a_line_that_is_no_letter_is_named_with_its_field_and_rule(change: dict[str, Any], complaint: str):
    with pytest.raises(InvalidInputError, match=complaint) as refused:
        parsed(lines({}, change), most=9)
    assert refused.value.field == complaint.split(": ")[1]


def test_too_many_lines_are_refused():
    with pytest.raises(InvalidInputError, match="more than 2 letters"):
        parsed(lines({}, {}, {}), most=2)
