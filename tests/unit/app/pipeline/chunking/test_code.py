from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from app.pipeline.chunking.languages import LANGUAGES, guess
from app.pipeline.chunking.registry import Chunk, build, parse_chunking_config
from app.pipeline.document import Document, Part
from app.pipeline.sandbox import close_idle_children
from tests.unit.app.pipeline.chunking.sources import CPP, GO, PYTHON, SOURCES, TYPESCRIPT, Source


@pytest.fixture(autouse=True, scope="module")
def _no_children_left() -> Iterator[None]:
    yield
    close_idle_children()


def document(*files: tuple[str, str], media_type: str = "text/x-source") -> Document:
    text, parts = "", []
    for name, content in files:
        lead = f"{name}\n\n" if len(files) > 1 else ""
        start = len(text) + len(lead)
        text += lead + content + "\n\n"
        parts.append(Part(name, media_type, start, start + len(content)))
    return Document(text, (), media_type, parts=tuple(parts))


def cut(source: Document | str, name: str = "a.py", **config: Any) -> list[Chunk]:
    whole = source if isinstance(source, Document) else document((name, source))
    raw = {"strategy": "code", "chunk_overlap": 0, **config}
    chunks = list(build(parse_chunking_config(raw)).chunk(whole))
    assert all(whole.text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    sizes = [chunk.token_count if raw.get("unit") else len(chunk.text) for chunk in chunks]
    assert max(sizes, default=0) <= raw.get("chunk_size", 1000)
    return chunks


def firsts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text.splitlines()[0] for chunk in chunks]


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_what_is_defined_stays_whole_with_what_stands_before_it_and_is_named(source: Source):
    found = cut(source.text, source.name, chunk_size=source.size, min_chunk_size=15)
    shown = [(chunk.heading_path, chunk.text.splitlines()[0], chunk.text.splitlines()[-1]) for chunk in found]
    assert shown == source.chunks


def test_what_fits_is_not_cut_at_all():
    (chunk,) = cut(PYTHON, chunk_size=2000)
    assert chunk.text == PYTHON.strip()
    assert chunk.heading_path == ()


def test_a_function_that_is_too_large_is_cut_between_its_statements_and_keeps_its_name():
    body = "".join(f"    if a_{n}:\n        call(a_{n})\n    rest(a_{n})\n" for n in range(12))
    chunks = cut(f"class A:\n    pass\n\n\ndef large(x):\n{body}", chunk_size=120, min_chunk_size=10)
    assert len(chunks) > 4
    assert all(chunk.text.startswith(("class", "def", "if", "rest")) for chunk in chunks)
    assert {chunk.heading_path for chunk in chunks} == {("A",), ("large",)}


def test_what_is_short_stands_alone_rather_than_have_a_function_cut():
    function = "def whole():\n" + "".join(f"    call({n})\n" for n in range(6))
    size = len(function.strip())
    chunks = cut(f"x = 1\n\n{function}\n\ny = 2\n", chunk_size=size, min_chunk_size=40)
    assert [chunk.text for chunk in chunks] == ["x = 1", function.strip(), "y = 2"]


def test_positions_count_characters_whatever_their_bytes():
    text = "# Größe €😀\n\n" + "".join(f"def größe_{n}():\n    return '😀€{n}'\n\n" for n in range(4))
    chunks = cut(text, chunk_size=40, min_chunk_size=0)
    assert [chunk.heading_path for chunk in chunks] == [(), *((f"größe_{n}",) for n in range(4))]
    assert firsts(chunks)[1:] == [f"def größe_{n}():" for n in range(4)]


def test_an_empty_line_parts_a_comment_from_what_follows_but_no_attribute():
    text = "// Alone.\n\n#[derive(Debug)]\n\nstruct A {\n    a: i32,\n}\n"
    chunks = cut(text, "a.rs", chunk_size=50, min_chunk_size=0)
    assert [(chunk.heading_path, chunk.text.split("\n")[0]) for chunk in chunks] == [
        ((), "// Alone."),
        (("A",), "#[derive(Debug)]"),
    ]


def test_no_chunk_begins_with_the_end_of_an_element():
    words = "".join(f"<p>{'words ' * length}</p>\n" for length in range(8, 0, -1))
    text = "<template>\n" + f"<div>\n{words}</div>\n" * 3 + "</template>\n"
    for size in range(74, 90):
        chunks = cut(text, "a.vue", chunk_size=size, min_chunk_size=0)
        assert not [chunk for chunk in chunks if chunk.text.startswith("</")]


def test_a_statement_that_is_too_large_is_cut_between_its_lines():
    text = 'NOTE = """\n' + "one line of words\n" * 40 + '"""\n'
    chunks = cut(text, chunk_size=100)
    assert all(chunk.text.startswith(("NOTE", "one")) for chunk in chunks)
    assert all(chunk.text.endswith(("words", '"""')) for chunk in chunks)


def test_lines_are_repeated_within_a_definition_and_never_in_front_of_one():
    one = "def one():\n" + "".join(f"    call({n})\n" for n in range(20))
    chunks = cut(one + "\n" + one.replace("one", "two"), chunk_size=100, chunk_overlap=40)
    again = [after.start < before.end for before, after in pairwise(chunks)]
    starts = [chunk.text.startswith("def") for chunk in chunks[1:]]
    assert any(again)
    assert not any(repeated and start for repeated, start in zip(again, starts, strict=True))
    assert {chunk.heading_path for chunk in chunks} == {("one",), ("two",)}


def test_sizes_may_count_tokens():
    chunks = cut(PYTHON, unit="tokens", chunk_size=60, min_chunk_size=0)
    assert all(chunk.token_count <= 60 for chunk in chunks)
    assert ("Account", "withdraw") in {chunk.heading_path for chunk in chunks}


def test_imports_are_left_out_when_they_are_not_wanted():
    kept = cut(PYTHON, chunk_size=2000, include_imports=False)
    assert [chunk.text.splitlines()[0] for chunk in kept] == ['"""Accounts."""', "LIMIT = Decimal(100)"]
    assert "fmt" not in cut(GO, "a.go", chunk_size=200, include_imports=False)[0].text
    assert firsts(cut(TYPESCRIPT, "a.ts", chunk_size=900, include_imports=False)) == ["/** Holds money. */"]
    assert not any("#include" in chunk.text for chunk in cut(CPP, "a.h", include_imports=False))


def test_what_stands_on_the_line_of_an_import_is_not_left_out_with_it():
    assert [each.text for each in cut("import a; run(a)\nimport b  # noqa\n", include_imports=False)] == [
        "import a; run(a)"
    ]


def test_comments_that_stand_alone_are_left_out_when_they_are_not_wanted():
    text = "# A licence.\n\n# About f.\ndef f():\n    # Inside.\n    return 1\n\n# The end.\n"
    (chunk,) = cut(text, preserve_comments=False)
    assert chunk.text == "# About f.\ndef f():\n    # Inside.\n    return 1"
    assert cut(text)[0].text == text.strip()


@pytest.mark.parametrize("text", ["import a\nimport b", "# only a comment"])
def test_a_file_of_nothing_else_is_kept(text: str):
    (chunk,) = cut(text, include_imports=False, preserve_comments=False)
    assert chunk.text == text


def test_files_of_an_archive_are_cut_each_in_its_language():
    whole = document(("bank/a.go", GO), ("README.md", "Some words. " * 40), ("a.py", PYTHON))
    chunks = cut(whole, chunk_size=260, min_chunk_size=20)
    paths = {chunk.heading_path for chunk in chunks}
    assert {("Account", "Withdraw"), ("Account", "withdraw"), ("open_account",), ()} <= paths
    covered = 0
    for chunk in chunks:
        assert not whole.text[covered : chunk.start].strip()
        covered = chunk.end
    assert not whole.text[covered:].strip()


@pytest.mark.parametrize(
    ("name", "media_type", "text", "language"),
    [
        ("a.PY", "text/x-source", "", "python"),
        ("dir\\a.tsx", "text/x-source", "", "tsx"),
        ("a.h", "text/x-source", "int a;\n", "c"),
        ("a.h", "text/x-source", "#pragma once\nclass A;\n", "cpp"),
        ("a.yml", "application/yaml", "", "yaml"),
        ("Cargo.toml", "application/toml", "", "toml"),
        ("App.vue", "text/x-source", "", "html"),
        ("run", "text/plain", "#!/usr/bin/env python3.11\n", "python"),
        ("run", "text/plain", "#!/usr/bin/env -S node --harmony\n", "javascript"),
        ("run", "text/plain", "#! /bin/sh -e\n", "bash"),
        ("run", "text/plain", "#!/usr/bin/perl\n", None),
        ("composer.lock", "text/plain", '{"a": 1}', "json"),
        ("a.txt", "text/plain", "{not JSON}", None),
        ("a.txt", "text/plain", "[" * 100_000, None),
        ("a.json", "application/json", "a: 1", None),  # its text is what extraction wrote
        ("a.sql", "text/x-source", "select 1", None),
        ("a.py", "application/pdf", "", None),
    ],
)
def test_a_language_is_told_by_name_first_line_or_content(
    name: str, media_type: str, text: str, language: str | None
):
    assert guess(Part(name, media_type, 0, len(text)), text) == language


def test_a_given_language_holds_for_every_file():
    chunks = cut(PYTHON, "notes.txt", language="py", chunk_size=260, min_chunk_size=20)
    assert ("Account", "withdraw") in {chunk.heading_path for chunk in chunks}


def test_text_in_no_known_language_is_cut_as_by_recursive():
    text = "Some words in a row. " * 50
    raw: dict[str, Any] = {"chunk_size": 200, "chunk_overlap": 20}
    expected = build(parse_chunking_config(raw)).chunk(Document(text, (), "text/plain"))
    assert cut(document(("a.txt", text), media_type="text/plain"), **raw) == list(expected)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_grammar_is_there(language: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert cut("{\n\nx = 1\n\n}\n" * 20, "a", language=language, chunk_size=60)
    assert not caplog.records


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("cpp", "a<b>(" * 100_000),  # overflows the grammar's stack
        ("yaml", "- " * 100_000),  # likewise
        ("python", "(" * 300_000),
        ("python", "# one more\n" * 50_000),
        ("python", "".join(" " * depth + "if a:\n" for depth in range(700))),
        ("python", "x = 'é€😀'\n" * 30_000),
        ("json", "[" * 100_000 + "]" * 100_000),
        ("json", '{"a":' * 30_000 + "1" + "}" * 30_000),
        ("json", "[" + "1," * 500_000 + "1]"),
        ("javascript", "function a(){return 1;}" * 45_000),
        ("javascript", "x='" + "a" * 1_000_000 + "'"),
        ("rust", "".join(chr(33 + number * 7919 % 90) for number in range(300_000))),
    ],
)
def test_hostile_and_endless_files_are_cut_in_linear_time(language: str, text: str):
    started = time.monotonic()
    chunks = cut(text, "a", language=language)
    assert time.monotonic() - started < 15
    assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
    assert max(len(chunk.heading_path) for chunk in chunks) <= 8


def test_a_file_that_takes_its_parser_too_long_is_cut_as_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("app.pipeline.chunking.code._SECONDS", 0.2)
    with caplog.at_level(logging.WARNING):
        chunks = cut("<a>" * 100_000, "a", language="html")
    assert "did not end within" in caplog.text
    assert len(chunks) >= 300


def test_no_grammar_is_loaded_into_this_process():
    code = (
        "import sys; from app.pipeline.chunking.registry import build, parse_chunking_config;"
        "from app.pipeline.document import Document;"
        "config = parse_chunking_config({'strategy': 'code', 'language': 'python'});"
        "assert len(list(build(config).chunk(Document('x = 1', (), 'text/plain')))) == 1;"
        "assert not [name for name in sys.modules if name.startswith('tree_sitter')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
