"""What holds for every strategy, every unit and every script."""

# ruff: noqa: RUF001 - the scripts are the subject

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.pipeline.chunking.boundaries import splits_letter
from app.pipeline.chunking.languages import LANGUAGES
from app.pipeline.chunking.registry import STRATEGIES, Chunk, ChunkingConfig, build, parse_chunking_config
from app.pipeline.chunking.wordpiece import count_tokens
from app.pipeline.document import Document
from app.pipeline.sandbox import close_idle_children

SCRIPTS = (
    "The quick brown fox. It jumps! Does it? ",
    "Zażółć gęślą jaźń. Größe, naïve café… ",
    "Ёжик в тумане. Лошадь не тонет! ",
    "这是第一句。这是第二句！真的吗？",
    "これは文です。クジラは泳ぐ、深く。",
    "이것은 문장입니다. 고래는 노래한다. ",
    "هذه جملة. هل هذا سؤال؟ نعم۔ ",
    "זה משפט. האם זו שאלה? ",
    "यह एक वाक्य है। यह दूसरा है॥ ",
    "นี่คือประโยคแรก นี่คือประโยคที่สอง ",
    "ይህ ዓረፍተ ነገር ነው። ",
    "👩‍👩‍👧‍👦👍🏽🇩🇪🇫🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿 ",
    "e\u0301\u0323a\u0308 ",
    "\u1112\u1161\u11ab\u1100\u1173\u11af ",
    "def f(x):\n    return x\n\n",
    "# Title\n\n- item\n\n```\ncode\n\nmore\n```\n\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n",
    "class A {\n  f() { g(); }\n}\n", '{"a": [1, {"b": 2}]}',
    "\r\n", "\n\n", "\t", " \u00a0\u3000", "\u200b", "\x85", "\x1c", "\u2028", "\ufeff",
    "a" * 130, "x" * 30, "1. ", "e.g. Dr. A. ", "...", '("end.") ', "\x00",
)  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(SCRIPTS), st.text(max_size=12)), min_size=0, max_size=25).map(
    "".join
)
STRATEGY = st.sampled_from(sorted(STRATEGIES))


@st.composite
def configurations(draw):
    strategy = draw(STRATEGY)
    unit = "tokens" if strategy == "tokens" else draw(st.sampled_from(["characters", "tokens"]))
    size = draw(st.integers(8 if unit == "tokens" else 1, 120))
    raw: dict[str, Any] = {
        "strategy": strategy,
        "unit": unit,
        "chunk_size": size,
        "chunk_overlap": draw(st.integers(0, size - 1)),
        "min_chunk_size": draw(st.integers(0, size // 2)),
    }
    if strategy == "semantic":
        raw["semantic"] = {
            "embedder_id": 1,
            "similarity_threshold": draw(st.floats(0, 1)),
            "buffer_size": draw(st.integers(0, 3)),
        }
    if strategy == "recursive" and draw(st.booleans()):
        raw["separators"] = draw(st.lists(st.sampled_from(["\n\n", "。", ". ", "-", "", "aa"]), max_size=3))
    if strategy == "code":
        raw["language"] = draw(st.sampled_from([None, *LANGUAGES]))
    if strategy == "tables":
        raw |= {"max_rows_per_chunk": draw(st.integers(1, 3)), "min_rows_for_table": draw(st.integers(1, 3))}
    return parse_chunking_config(raw)


@pytest.fixture(autouse=True, scope="module")
def _no_children_left():
    yield
    close_idle_children()


def chunks_of(text: str, config: ChunkingConfig) -> list[Chunk]:
    return list(build(config, scattered).chunk(Document(text, (), "text/plain")))


def scattered(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A direction for each text, the same each time; one in sixteen is not taken."""
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    rows = np.array([[byte - 100.0 for byte in digest[:3]] for digest in digests], dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[[digest[3] < 16 for digest in digests]] = np.nan
    return rows


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, config=configurations())
def test_chunks_are_exact_spans_that_cover_the_text_within_the_size(text, config):
    chunks = chunks_of(text, config)
    covered = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        assert not text[covered : chunk.start].strip(), "text was left out"
        assert chunk.end > covered, "no progress"
        covered = chunk.end
    assert not text[covered:].strip(), "the end was left out"


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, config=configurations())
def test_sizes_and_overlaps_keep_to_the_configuration(text, config):
    def size(part: str) -> int:
        return count_tokens([part])[0] if config.unit == "tokens" else len(part)

    chunks = chunks_of(text, config)
    for chunk in chunks:
        assert size(chunk.text) <= config.chunk_size or len(chunk.text) == 1
        assert chunk.token_count == count_tokens([chunk.text])[0]
    for left, right in pairwise(chunks):
        assert left.start < right.start
        if right.start < left.end:
            assert size(text[right.start : left.end]) <= config.chunk_overlap


def named(strategy: str, **sizes: int) -> ChunkingConfig:
    own = {"semantic": {"embedder_id": 1}} if strategy == "semantic" else {}
    return parse_chunking_config({"strategy": strategy, **own, **sizes})


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, strategy=STRATEGY)
def test_no_letter_is_split_where_there_is_room(text, strategy):
    config = named(strategy, chunk_size=100, chunk_overlap=30, min_chunk_size=10)
    for chunk in chunks_of(text, config):
        assert not splits_letter(text, chunk.start)
        assert not splits_letter(text, chunk.end)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_no_chunk_comes_from_an_empty_document(strategy):
    assert chunks_of(" \n\t ", named(strategy)) == []
