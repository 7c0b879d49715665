from __future__ import annotations

import pytest
from sqlalchemy.dialects import postgresql

from app.errors import InvalidInputError
from app.services.letter_search import found_by

UUID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


def asked(text: str) -> tuple[str, list[object]]:
    """Which columns are asked, and what for."""
    compiled = found_by(text).compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), list(compiled.params.values())


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (UUID, "job_id"),
        (f" {UUID.upper()} ", "job_id"),
        (f"{UUID}:2", "message_id"),
        ("0" * 32, "trace_id"),
        ("ab" * 8, "fingerprint"),
        ("4711", "dead_letter_id"),
    ],
)
def test_an_id_asks_for_what_it_names(text: str, column: str):
    assert f"dead_letters.{column} =" in asked(text)[0]


def test_words_are_all_asked_for_and_letters_may_go_on_but_numbers_may_not():
    sql, (query,) = asked("Frozen  report_2024.PDF: it's a -- \\ 100%")
    assert "@@" in sql
    assert query == (
        "('frozen' | 'frozen':*) & ('report' | 'report':*) & '2024' & ('pdf' | 'pdf':*) "
        "& 'it' & 's' & 'a' & '100'"
    )


@pytest.mark.parametrize("text", ["", "  ", "'", "\x00", "--%", "x" * 201])
def test_a_search_for_nothing_or_too_much_is_refused(text: str):
    with pytest.raises(InvalidInputError, match="search"):
        found_by(text)


def test_a_number_beyond_all_ids_is_a_word():
    assert "dead_letter_id =" not in asked("9" * 30)[0]
