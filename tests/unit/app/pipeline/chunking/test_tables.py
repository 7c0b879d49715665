from __future__ import annotations

from typing import Any

import pytest

from app.pipeline.chunking.registry import Chunk, build, parse_chunking_config
from app.pipeline.document import Block, Document
from app.pipeline.extraction.assemble import from_elements
from app.pipeline.extraction.config import parse_extraction_config
from app.pipeline.extraction.elements import Element

HEADER = ("Name", "Length, m", "Eats")
FORMATS = ["markdown", "csv", "plain_text"]
IN_PATH = "Name | Length, m | Eats"


def rows(count: int) -> tuple[tuple[str, ...], ...]:
    return tuple((f"whale {number}", str(number), "krill") for number in range(1, count + 1))


def table(count: int) -> Element:
    return Element("table", rows=(HEADER, *rows(count)))


def document(*elements: Element, table_format: str = "plain_text") -> Document:
    config = parse_extraction_config({"options": {"table_format": table_format}})
    return from_elements(elements, config.rendering(), media_type="text/html")


def cut(source: Document, **config: Any) -> list[Chunk]:
    raw = {"strategy": "tables", "chunk_overlap": 0, "min_chunk_size": 0, **config}
    chunks = list(build(parse_chunking_config(raw)).chunk(source))
    covered = 0
    for chunk in chunks:
        assert source.text[chunk.start : chunk.end] == chunk.text
        assert not source.text[covered : chunk.start].strip()
        covered = chunk.end
    assert not source.text[covered:].strip()
    return chunks


def counts(chunks: list[Chunk]) -> list[int]:
    return [chunk.text.count("whale") for chunk in chunks]


@pytest.mark.parametrize("table_format", FORMATS)
def test_a_table_is_cut_by_rows_and_each_chunk_knows_the_header(table_format: str):
    source = document(Element("heading", "Whales", level=1), table(25), table_format=table_format)
    chunks = cut(source, max_rows_per_chunk=10)[1:]
    assert counts(chunks) == [10, 10, 5]
    assert "Name" in chunks[0].text
    assert not any("Name" in chunk.text for chunk in chunks[1:])
    assert [chunk.heading_path for chunk in chunks] == [
        ("Whales",),
        ("Whales", IN_PATH),
        ("Whales", IN_PATH),
    ]


def test_headers_are_left_out_of_the_path_when_they_are_not_wanted():
    chunks = cut(document(table(25)), max_rows_per_chunk=10, include_headers=False)
    assert {chunk.heading_path for chunk in chunks} == {()}


def test_a_chunk_of_rows_holds_as_many_as_fit():
    chunks = cut(document(table(40)), chunk_size=120)
    assert len(chunks) > 4
    assert all(len(chunk.text) <= 120 for chunk in chunks)
    assert all(chunk.text.endswith("krill") for chunk in chunks)


def test_few_rows_at_the_end_take_some_of_their_neighbours():
    assert counts(cut(document(table(11)), max_rows_per_chunk=10)) == [10, 1]
    assert counts(cut(document(table(11)), max_rows_per_chunk=10, min_chunk_size=40)) == [8, 3]


def test_a_row_that_is_too_large_is_cut_between_its_words():
    wide = Element("table", rows=(("a", "b"), ("1", "words " * 100), ("2", "x"), ("3", "y")))
    chunks = cut(document(wide), chunk_size=100)
    assert all(len(chunk.text) <= 100 for chunk in chunks)
    assert [chunk.heading_path for chunk in chunks][1:] == [("a | b",)] * (len(chunks) - 1)
    assert chunks[-1].text == "2\tx\n3\ty"


def test_a_small_table_is_text():
    around = [Element("paragraph", "Before."), table(2), Element("paragraph", "After.")]
    (chunk,) = cut(document(*around))
    assert chunk.text.startswith("Before.")
    assert len(cut(document(*around), min_rows_for_table=2)) == 3


def test_the_parts_of_a_long_table_are_one():
    """Extraction writes a long table down in blocks of their own, each with the header."""
    source = document(table(140))
    assert len(source.blocks) == 2
    kept = cut(source, min_rows_for_table=130)
    assert all(chunk.text.count("whale") <= 50 for chunk in kept)
    assert len(cut(source, chunk_size=100_000, min_rows_for_table=141)) == 1


def test_tables_under_other_headers_are_others():
    other = Element("table", rows=(("Fish", "Fins"), ("cod", "8"), ("hake", "6")))
    (chunk,) = cut(document(table(2), other), chunk_size=1000)
    assert "cod" in chunk.text


def test_a_table_of_markdown_is_found_in_a_text_without_blocks():
    lines = [f"| cod {number} | {number} |" for number in range(6)]
    text = "\n".join(["Some fish:", "", "| Fish | Fins |", "|:--|--:|", *lines, "", "And so on."])
    chunks = cut(Document(text, (), "text/plain"), max_rows_per_chunk=3)
    assert [chunk.text.count("cod") for chunk in chunks] == [0, 3, 3, 0]
    assert chunks[2].heading_path == ("Fish | Fins",)


def test_no_chunk_crosses_a_page():
    text = "one\n\na\tb\n1\t2\n3\t4\n5\t6\n\ntwo\n\nthree"
    spans = [("paragraph", "one", 1), ("table", "a\tb\n1\t2\n3\t4\n5\t6", 1)]
    spans += [("paragraph", "two", 1), ("paragraph", "three", 2)]
    blocks = tuple(
        Block(kind, text.index(part), text.index(part) + len(part), page=page)  # type: ignore[arg-type]
        for kind, part, page in spans
    )
    chunks = cut(Document(text, blocks, "application/pdf"))
    assert [(chunk.text, chunk.page) for chunk in chunks] == [
        ("one", 1),
        ("a\tb\n1\t2\n3\t4\n5\t6", 1),
        ("two", 1),
        ("three", 2),
    ]


@pytest.mark.parametrize("unit", ["| a | b |\n|---|---|\n| 1 | 2 |\n\n", "| a | b |\n", "|-|\n", "|", "| - "])
def test_endless_tables_take_linear_time(unit: str):
    import time

    text = unit * (300_000 // len(unit))
    started = time.process_time()
    cut(Document(text, (), "text/plain"), min_rows_for_table=1)
    assert time.process_time() - started < 10
