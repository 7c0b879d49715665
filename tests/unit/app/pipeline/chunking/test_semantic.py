from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.errors import InvalidInputError, TooLargeError
from app.pipeline.chunking import semantic
from app.pipeline.chunking.config import ChunkingConfig, parse_chunking_config
from app.pipeline.chunking.likeness import Likeness
from app.pipeline.chunking.registry import Chunk, build
from app.pipeline.document import Block, Document

SUBJECTS = ("tide", "bread", "court")
SEA = "The tide comes in. The tide goes out. A tide table tells when. No tide is late."
KITCHEN = "Knead the bread well. Let the bread rise. Bake the bread hot. Cut the bread cold."


class Embedder:
    """A direction per subject; a text with several lies between them. It may not take a word."""

    def __init__(self, refused: str = "") -> None:
        self.parts: list[Sequence[str]] = []
        self.refused = refused

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.parts.append(texts)
        rows = np.array([[text.lower().count(each) + 0.01 for each in SUBJECTS] for text in texts])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        if self.refused:
            rows[[self.refused in text for text in texts]] = np.nan
        return rows.astype(np.float32)


def configured(**own: Any) -> ChunkingConfig:
    sizes: dict[str, Any] = {name: own.pop(name) for name in ("chunk_size", "min_chunk_size") if name in own}
    return parse_chunking_config({"strategy": "semantic", **sizes, "semantic": {"embedder_id": 1, **own}})


def cut(text: str, embed: Embedder, blocks: tuple[Block, ...] = (), **own: Any) -> list[Chunk]:
    return list(build(configured(**own), embed).chunk(Document(text, blocks, "text/plain")))


def texts(text: str, **own: Any) -> list[str]:
    return [chunk.text for chunk in cut(text, Embedder(), **own)]


@pytest.mark.parametrize(("around", "threshold"), [(0, 0.7), (1, 0.9), (2, 0.98), (3, 0.99)])
def test_a_chunk_ends_where_the_subject_changes_however_wide_the_windows(around: int, threshold: float):
    sea, kitchen = f"{SEA} {SEA}", f"{KITCHEN} {KITCHEN}"
    found = texts(f"{sea} {kitchen} {sea}", buffer_size=around, similarity_threshold=threshold)
    assert found == [sea, kitchen, sea]


def test_a_threshold_that_nothing_falls_below_leaves_what_fits_together():
    assert texts(f"{SEA} {KITCHEN}", similarity_threshold=0.0) == [f"{SEA} {KITCHEN}"]


def test_equal_sentences_are_alike_whatever_the_threshold():
    text = "The tide comes in today. " * 6
    assert texts(text, similarity_threshold=1.0) == [text.strip()]


def test_a_subject_that_is_too_long_for_a_chunk_is_cut_between_sentences():
    assert texts(f"{SEA} {KITCHEN}", buffer_size=0, chunk_size=40, min_chunk_size=10) == [
        "The tide comes in. The tide goes out.",
        "A tide table tells when.",
        "No tide is late.",
        "Knead the bread well.",
        "Let the bread rise. Bake the bread hot.",
        "Cut the bread cold.",
    ]


def test_a_subject_of_a_few_words_goes_with_the_neighbour_that_it_is_more_like():
    between = f"{SEA} Tide, tide, court. {KITCHEN}"
    assert texts(between, buffer_size=0, similarity_threshold=0.95) == [f"{SEA} Tide, tide, court.", KITCHEN]
    between = f"{SEA} Bread, bread, court. {KITCHEN}"
    assert texts(between, buffer_size=0, similarity_threshold=0.95) == [
        SEA,
        f"Bread, bread, court. {KITCHEN}",
    ]


def test_a_text_that_is_too_small_altogether_is_one_chunk():
    assert texts("A tide. A bread.", buffer_size=0) == ["A tide. A bread."]


def test_a_sentence_that_a_provider_does_not_take_parts_nothing():
    embed = Embedder(refused="goes out")
    assert [chunk.text for chunk in cut(f"{SEA} {KITCHEN}", embed, buffer_size=0)] == [SEA, KITCHEN]
    everything = Embedder(refused="e")
    assert len(cut(f"{SEA} {KITCHEN}", everything, buffer_size=0)) == 1


def test_no_chunk_crosses_a_page():
    text = f"{SEA} {SEA}"
    half = len(SEA) + 1
    blocks = (Block("paragraph", 0, len(SEA), page=1), Block("paragraph", half, len(text), page=2))
    chunks = cut(text, Embedder(), blocks)
    assert [(chunk.text, chunk.page) for chunk in chunks] == [(SEA, 1), (SEA, 2)]


@pytest.mark.parametrize("text", ["", "One sentence alone."])
def test_where_there_is_nothing_to_compare_nobody_is_asked(text: str):
    embed = Embedder()
    cut(text, embed)
    assert embed.parts == []


def test_a_long_text_is_embedded_in_parts_each_window_once_and_none_is_large():
    embed = Embedder()
    text = f"{SEA} " * 2500 + "word " * 5000
    chunks = cut(text, embed, chunk_size=200)
    windows = [window for part in embed.parts for window in part]
    assert max(map(len, embed.parts)) == 64
    assert 10_000 <= len(windows) <= 10_200
    assert max(map(len, windows)) <= 3 * 200 + 2
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


def test_a_text_with_too_many_sentences_is_refused_before_it_costs_anything(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(semantic, "MOST_SENTENCES", 7)
    embed = Embedder()
    with pytest.raises(TooLargeError, match=r"at most 7 sentences.*choose another chunking strategy"):
        cut(f"{SEA} {KITCHEN}", embed)
    assert embed.parts == []


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from(["A tide is.", "Some bread.", "One court!", "It was so."]), max_size=60),
    around=st.integers(0, 3),
    threshold=st.floats(0, 1),
)
def test_no_chunk_is_too_small_where_its_sentences_leave_a_choice(words, around, threshold):
    text = " ".join(words)
    chunks = cut(
        text, Embedder(), buffer_size=around, similarity_threshold=threshold, chunk_size=80, min_chunk_size=25
    )
    assert " ".join(chunk.text for chunk in chunks) == text
    assert all(len(chunk.text) <= 80 for chunk in chunks)
    assert len(chunks) <= 1 or min(len(chunk.text) for chunk in chunks) >= 25
    assert all(left.end + 1 == right.start for left, right in pairwise(chunks))


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 40), size=st.integers(1, 9), around=st.integers(0, 4))
def test_likeness_is_the_same_in_whatever_parts_the_vectors_come(number: int, size: int, around: int):
    rows = np.random.default_rng(number).normal(size=(number, 3)).astype(np.float32)
    found = Likeness.of((rows[start : start + size] for start in range(0, number, size)), around)
    assert found.near == pytest.approx([float(a @ b) for a, b in pairwise(rows)], abs=1e-5)
    step = 2 * around + 1
    known = [float(a @ b) for a, b in zip(rows, rows[step:], strict=False)]
    assert found.apart[around : around + len(known)] == pytest.approx(known, abs=1e-5)
    assert len(found.apart) >= number - 1


def test_equal_vectors_are_alike_by_one_whatever_their_length_is_rounded_to():
    rows = np.full((3, 3), np.float32(1 / np.sqrt(3)))
    assert float(np.sum(rows[0].astype(float) ** 2)) < 1
    assert Likeness.of([rows], 0).changes(0, 3, 1.0) == []


def test_a_change_is_placed_by_what_is_known():
    a, b, unknown = (1.0, 0.0), (0.0, 1.0), (np.nan, np.nan)
    rows = np.array([unknown, a, a, b, b, b, b], dtype=np.float32)
    assert Likeness.of([rows], 1).changes(0, 7, 0.5) == [3]


OWN = {"embedder_id": 7, "similarity_threshold": 0.6, "buffer_size": 2}
SIZES = {"max_chunk_size": 400, "min_chunk_size": 60}


@pytest.mark.parametrize(
    "raw",
    [
        {"chunk_size": 200, "options": {"semantic": {**OWN, **SIZES}, "trim_whitespace": True}},
        {"chunk_size": 200, "options": {"min_chunk_size": 5, "semantic": {**OWN, **SIZES}}},
        {"chunk_size": 200, **OWN, **SIZES},
        {"semantic": {**OWN, **SIZES}},
        {"semantic": OWN, "chunk_size": 400, "min_chunk_size": 60},
    ],
)
def test_the_options_are_taken_wherever_clients_say_them(raw: dict[str, Any]):
    config = parse_chunking_config({"strategy": "semantic", **raw})
    stored = config.model_dump()
    assert stored["semantic"] == OWN
    assert (stored["chunk_size"], stored["min_chunk_size"], stored["chunk_overlap"]) == (400, 60, 0)
    assert parse_chunking_config(stored).model_dump() == stored


@pytest.mark.parametrize(
    ("raw", "sizes"),
    [
        ({}, (500, 50)),
        ({"chunk_size": 80}, (80, 40)),
        ({"unit": "tokens"}, (200, 50)),
        ({"semantic": {"max_chunk_size": 100, "min_chunk_size": 100}}, (100, 50)),
        ({"options": {"semantic": None, "min_chunk_size": 30}}, (500, 30)),
    ],
)
def test_what_is_left_out_is_as_clients_know_it(raw: dict[str, Any], sizes: tuple[int, int]):
    config = parse_chunking_config({"strategy": "semantic", "embedder_id": 7, **raw})
    assert config.semantic is not None
    assert (config.semantic.similarity_threshold, config.semantic.buffer_size) == (0.7, 1)
    assert (config.chunk_size, config.min_chunk_size) == sizes


def test_other_strategies_have_no_such_options_and_are_stored_as_before():
    assert "semantic" not in parse_chunking_config({"options": {"semantic": None}}).model_dump()
    with pytest.raises(InvalidInputError, match="only the strategy semantic"):
        parse_chunking_config({"strategy": "sentences", "semantic": {"embedder_id": 1}})
    with pytest.raises(InvalidInputError, match=r"options\.semantic: there is no such option"):
        parse_chunking_config({"strategy": "sentences", "options": {"semantic": {"embedder_id": 1}}})


@pytest.mark.parametrize(
    ("own", "field", "rule"),
    [
        ({}, "semantic.embedder_id", "Field required"),
        ({"embedder_id": "7"}, "semantic.embedder_id", "valid integer"),
        ({"embedder_id": 2**31}, "semantic.embedder_id", "less than or equal"),
        (
            {"embedder_id": 7, "similarity_threshold": 1.1},
            "semantic.similarity_threshold",
            "less than or equal",
        ),
        ({"embedder_id": 7, "similarity_threshold": -0.1}, "semantic.similarity_threshold", "greater than"),
        ({"embedder_id": 7, "similarity_threshold": float("nan")}, "semantic.similarity_threshold", "finite"),
        ({"embedder_id": 7, "buffer_size": -1}, "semantic.buffer_size", "greater than or equal to 0"),
        ({"embedder_id": 7, "buffer_size": 11}, "semantic.buffer_size", "less than or equal to 10"),
        ({"embedder_id": 7, "max_chunk_size": 0}, "chunk_size", "must be from 1"),
        ({"embedder_id": 7, "max_chunk_size": 90, "min_chunk_size": 91}, "min_chunk_size", "at most half"),
        ({"embedder_id": 7, "magic": 1}, "semantic.magic", "there is no such option"),
    ],
)
@pytest.mark.parametrize("within", [True, False], ids=["in options", "beside"])
def test_a_broken_rule_names_the_field_and_the_rule(own: dict[str, Any], field: str, rule: str, within: bool):
    told = {"options": {"semantic": own}} if within else {"semantic": own}
    with pytest.raises(InvalidInputError) as caught:
        parse_chunking_config({"strategy": "semantic", **told})
    assert caught.value.field == f"chunking.{field}"
    assert rule in caught.value.message


def test_nothing_is_built_that_could_not_embed():
    with pytest.raises(ValueError, match="something that embeds"):
        build(configured())
