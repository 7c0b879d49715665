# ruff: noqa: RUF001 - the scripts are the subject

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from app.pipeline.chunking.boundaries import sentence_cuts, splits_letter
from app.pipeline.chunking.registry import Chunk, build, parse_chunking_config
from app.pipeline.document import Block, Document


def cut(text: str, *, blocks: tuple[Block, ...] = (), **config: Any) -> list[Chunk]:
    return list(build(parse_chunking_config(config)).chunk(Document(text, blocks, "text/plain")))


def texts(text: str, **config: Any) -> list[str]:
    return [chunk.text for chunk in cut(text, **config)]


def test_a_short_text_is_one_chunk():
    assert texts("  Hello world.  ") == ["Hello world."]


def test_recursive_prefers_paragraphs_to_lines_to_sentences_to_words():
    assert texts("one two\nthree four\n\nfive six", chunk_size=20, chunk_overlap=0, min_chunk_size=0) == [
        "one two\nthree four",
        "five six",
    ]
    assert texts("one two\nthree four", chunk_size=12, chunk_overlap=0, min_chunk_size=0) == [
        "one two",
        "three four",
    ]
    assert texts("One two three. Four five", chunk_size=18, chunk_overlap=0, min_chunk_size=0) == [
        "One two three.",
        "Four five",
    ]
    assert texts("one two three", chunk_size=9, chunk_overlap=0, min_chunk_size=0) == ["one two", "three"]


def test_given_separators_replace_our_own():
    assert texts("aa--bb cc--dd", chunk_size=8, chunk_overlap=0, min_chunk_size=0, separators=["--"]) == [
        "aa--",
        "bb cc--",
        "dd",
    ]


def test_fixed_size_cuts_at_the_size_whatever_stands_there():
    assert texts("abcdefghij", strategy="fixed_size", chunk_size=4, chunk_overlap=0, min_chunk_size=0) == [
        "abcd",
        "efgh",
        "ij",
    ]


def test_fixed_size_overlaps_by_exactly_the_overlap():
    assert texts("abcdefghij", strategy="fixed_size", chunk_size=4, chunk_overlap=1, min_chunk_size=0) == [
        "abcd",
        "defg",
        "ghij",
    ]


def test_overlap_repeats_whole_words():
    chunks = texts("alpha beta gamma delta epsilon", chunk_size=17, chunk_overlap=6, min_chunk_size=0)
    assert chunks == ["alpha beta gamma", "gamma delta", "delta epsilon"]


def test_a_short_rest_takes_words_from_its_neighbour():
    chunks = texts("aaaa bbbb cccc dddd eeee", chunk_size=20, chunk_overlap=0, min_chunk_size=8)
    assert chunks == ["aaaa bbbb cccc", "dddd eeee"]


def test_tokens_fill_windows_with_whole_words():
    chunks = cut("word " * 100, strategy="tokens", chunk_size=30, chunk_overlap=10)
    assert {chunk.token_count for chunk in chunks[:-1]} == {30}
    assert chunks[1].start == chunks[0].end - len(("word " * 10).strip())


def test_sentences_stay_whole():
    text = "Dr. Smith came at 3.14 p.m. yesterday. He said: “Fine!” Then he left. Why?"
    assert texts(text, strategy="sentences", chunk_size=40, chunk_overlap=0, min_chunk_size=0) == [
        "Dr. Smith came at 3.14 p.m. yesterday.",
        "He said: “Fine!” Then he left. Why?",
    ]


def test_sentences_repeat_whole_sentences_only():
    text = "One is. Two is. Tri is. Three is too."
    assert texts(text, strategy="sentences", chunk_size=16, chunk_overlap=9, min_chunk_size=0) == [
        "One is. Two is.",
        "Two is. Tri is.",
        "Three is too.",  # "Tri is." and this do not fit together, so nothing is repeated
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("这是第一句。这是第二句！真的吗？", ["这是第一句。", "这是第二句！", "真的吗？"]),
        ("「鯨だ。」と彼は言った。そうだ。", ["「鯨だ。」", "と彼は言った。", "そうだ。"]),
        ("هل هذا سؤال؟ نعم.", ["هل هذا سؤال؟", "نعم."]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("ประโยคแรก ประโยคที่สอง", ["ประโยคแรก", "ประโยคที่สอง"]),
        ("See Fig. 3 and e.g. this. J. Doe wrote it.", ["See Fig. 3 and e.g. this.", "J. Doe wrote it."]),
        ("1. First point.\n2. Second.", ["1. First point.", "2. Second."]),
        ("No end\n\nNext", ["No end", "Next"]),
    ],
)
def test_sentences_end_where_readers_of_the_script_see_it(text, sentences):
    cuts = [0, *sentence_cuts(text), len(text)]
    parts = [text[a:b].strip() for a, b in pairwise(cuts)]
    assert [part for part in parts if part] == sentences


@pytest.mark.parametrize(
    "letter",
    ["e\u0301", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "\u1112\u1161\u11ab", "\r\n", "कि", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"],
)
def test_what_readers_see_as_one_letter_is_not_split(letter):
    text = f"a{letter}b"
    assert all(splits_letter(text, cut) for cut in range(2, 1 + len(letter)))
    assert not splits_letter(text, 1)
    assert not splits_letter(text, 1 + len(letter))


def test_two_flags_are_two_letters():
    assert not splits_letter("🇩🇪🇫🇷", 2)


MARKDOWN = """\
# Animals

Intro text here.

## Whales

Whales sing in the deep sea.

```
code line one

code line two
```

## Cod

Cod swim.
"""


def blocks_of(text: str) -> tuple[Block, ...]:
    from app.pipeline.extraction.markdown import markdown_blocks

    return tuple(markdown_blocks(text))


@pytest.mark.parametrize("with_blocks", [True, False])
def test_markdown_cuts_at_headings_and_keeps_code_whole(with_blocks):
    chunks = cut(
        MARKDOWN,
        blocks=blocks_of(MARKDOWN) if with_blocks else (),
        strategy="markdown",
        chunk_size=90,
        chunk_overlap=0,
        min_chunk_size=10,
    )
    assert [chunk.text.splitlines()[0] for chunk in chunks] == ["# Animals", "## Whales", "## Cod"]
    assert "code line one\n\ncode line two\n```" in chunks[1].text


def test_markdown_cuts_inside_code_that_is_too_long():
    text = "```\n" + "line of code\n" * 30 + "```"
    chunks = cut(text, blocks=blocks_of(text), strategy="markdown", chunk_size=100, chunk_overlap=0)
    assert all(len(chunk.text) <= 100 for chunk in chunks)
    assert all(chunk.text.endswith(("code", "```")) for chunk in chunks)


def test_markdown_packs_small_sections_together():
    assert len(cut(MARKDOWN, blocks=blocks_of(MARKDOWN), strategy="markdown", chunk_size=1000)) == 1


@pytest.mark.parametrize("strategy", ["recursive", "tokens", "sentences", "markdown", "code", "tables"])
def test_every_strategy_names_headings_and_pages(strategy):
    text = "Top\n\nfirst words here\n\nInner\n\nsecond words here\n\nNext\n\nthird words here"
    titles = {"Top": 1, "Inner": 2, "Next": 1}
    blocks = []
    position = 0
    for page, part in enumerate(text.split("\n\n"), start=1):
        kind = "heading" if part in titles else "paragraph"
        end = position + len(part)
        blocks.append(Block(kind, position, end, titles.get(part, 0), page))  # type: ignore[arg-type]
        position = end + 2
    size = 8 if strategy == "tokens" else 24
    chunks = cut(
        text, blocks=tuple(blocks), strategy=strategy, chunk_size=size, chunk_overlap=0, min_chunk_size=0
    )
    found = {chunk.heading_path for chunk in chunks}
    assert ("Top",) in found
    assert {("Next",), ("Top", "Inner")} & found
    for chunk in chunks:
        expected = next(block.page for block in reversed(blocks) if block.start <= chunk.start)
        assert chunk.page == expected


def test_a_chunk_at_a_markdown_heading_stands_under_it():
    chunks = cut(MARKDOWN, blocks=blocks_of(MARKDOWN), strategy="markdown", chunk_size=90, chunk_overlap=0)
    assert chunks[1].heading_path == ("Animals", "Whales")
    assert chunks[2].heading_path == ("Animals", "Cod")


@pytest.mark.parametrize("strategy", ["recursive", "tokens", "sentences", "markdown", "code", "tables"])
@pytest.mark.parametrize("unit", ["a", "word ", "。", "\n", "a. ", "# h\n", "```\n", "🇩", "é", "\u0301"])
def test_a_monotonous_text_takes_linear_time(strategy, unit):
    import time

    text = unit * (200_000 // len(unit))
    started = time.process_time()
    cut(text, strategy=strategy)
    assert time.process_time() - started < 10


def test_no_chunk_crosses_a_page():
    pages = ((0, 3, 1), (5, 8, 2), (10, 15, 2))
    blocks = tuple(Block("paragraph", start, end, page=page) for start, end, page in pages)
    chunks = cut("one\n\ntwo\n\nthree", blocks=blocks, chunk_size=100, chunk_overlap=10)
    assert [(chunk.text, chunk.page) for chunk in chunks] == [("one", 1), ("two\n\nthree", 2)]
