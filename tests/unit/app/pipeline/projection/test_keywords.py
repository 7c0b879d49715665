from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidInputError
from app.pipeline.projection.keywords import topic_keywords, unique_names
from app.pipeline.projection.vectors import write_texts
from app.pipeline.projection.words import terms


def keywords_of(texts: list[str], labels: Any, count: int, tmp_path: Path) -> list[tuple[str, ...]]:
    write_texts(texts, tmp_path / "texts.jsonl")
    return topic_keywords(tmp_path / "texts.jsonl", np.array(labels, dtype=np.int32), count)


def test_terms_are_words_and_pairs_without_function_words():
    assert list(terms("The credit card of the bank. Interest rates!")) == [
        "credit",
        "card",
        "credit card",
        "bank",
        "interest",
        "rates",
        "interest rates",
    ]


def test_terms_of_unspaced_scripts_are_pairs_of_characters():
    assert list(terms("東京都 price")) == ["東京", "京都", "price"]


def test_accents_apostrophes_and_digits_inside_words_stay():
    assert list(terms("l'été UTF-8 the bank\u2019s 42")) == ["l'été", "utf-8", "l'été utf-8", "bank"]


def test_a_topic_is_named_by_what_the_others_do_not_say(tmp_path):
    texts = [
        "flip a coin please",
        "coin flip heads",
        "coin flip tails",
        "book a flight please",
        "flight to Rome",
    ]
    first, second = keywords_of(texts, [0, 0, 0, 1, 1], 2, tmp_path)
    assert first[0] == "coin flip"
    assert second[0] == "flight"
    assert "please" not in (first[0], second[0])


def test_forms_of_one_word_are_shown_once(tmp_path):
    (words,) = keywords_of(["account accounts balance", "account accounts balance"], [0, 0], 1, tmp_path)
    assert sum("account" in word for word in words) == 1


def test_unassigned_texts_do_not_count(tmp_path):
    (words,) = keywords_of(["apple pie", "zebra crossing"], [0, -1], 1, tmp_path)
    assert words == ("apple pie",)


def test_a_topic_without_words_is_numbered(tmp_path):
    words = keywords_of(["123 456", "apple"], [0, 1], 2, tmp_path)
    assert unique_names(words) == ["Topic 1", "apple"]


def test_names_that_would_agree_are_told_apart():
    names = unique_names([("a", "b", "c", "d"), ("a", "b", "c", "e"), ("a", "b", "c"), ("a", "b", "c")])
    assert names == ["a, b, c", "a, b, e", "a, b, c (2)", "a, b, c (3)"]


@pytest.mark.parametrize("texts", [["one"], ["one", "two", "three"]])
def test_texts_must_match_the_vectors(tmp_path, texts):
    with pytest.raises(InvalidInputError, match=f"{len(texts)} texts for 2 vectors"):
        keywords_of(texts, [0, 0], 1, tmp_path)


def test_names_repeat_from_run_to_run(tmp_path):
    random = np.random.default_rng(5)
    texts = [" ".join(random.choice(["alpha", "beta", "gamma", "delta"], 5)) for _ in range(200)]
    labels = random.integers(0, 4, 200)
    assert keywords_of(texts, labels, 4, tmp_path) == keywords_of(texts, labels, 4, tmp_path)


def test_web_addresses_and_markup_name_no_topic():
    text = "See https://github.com/example/harbour.svg and www.example.org for the harbour badge"
    assert set(terms(text)) == {"harbour"}
