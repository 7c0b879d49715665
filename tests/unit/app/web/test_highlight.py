from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.services import words
from app.web import highlight


def test_words_that_begin_like_a_query_word_are_lit() -> None:
    assert highlight.lit("All Connections are pooled.", "how to connect") == (
        "All <mark>Connections</mark> are pooled."
    )


def test_words_that_say_nothing_light_nothing() -> None:
    assert words.query_words("What is the way to do this?") == ("way",)


def test_markup_in_text_and_query_stays_text() -> None:
    lit = highlight.lit("<script>alert(1)</script> & more", "<script>")
    assert "<script>" not in lit
    assert "&lt;<mark>script</mark>&gt;" in lit


def test_the_part_with_most_query_words_is_shown() -> None:
    text = "filler " * 200 + "the wing in a slipstream has more lift " + "filler " * 200
    shown = highlight.lit(text, "lift of a wing in a slipstream", most=120)
    assert "<mark>wing</mark>" in shown
    assert "<mark>lift</mark>" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")


def test_an_extract_leaves_out_the_marks_of_headings() -> None:
    assert highlight.shortened("# Title\n\n======\nFirst   words.\n## Next", 100) == "Title First words. Next"


@given(st.text(max_size=300), st.text(max_size=60))
def test_lighting_never_loses_or_adds_text(text: str, query: str) -> None:
    plain = highlight.lit(text, query).replace("<mark>", "").replace("</mark>", "")
    assert plain.unescape() == text


@given(st.text(max_size=2_000), st.text(max_size=40), st.integers(min_value=50, max_value=400))
def test_an_extract_is_never_much_longer_than_asked(text: str, query: str, most: int) -> None:
    shown = highlight.lit(text, query, most=most).striptags()
    assert len(shown) <= most + 4
