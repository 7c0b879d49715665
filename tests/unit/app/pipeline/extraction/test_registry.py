from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import PermanentError, UnavailableError
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.detection import extension_of
from app.pipeline.extraction.formats import BY_EXTENSION, FORMATS
from app.pipeline.extraction.registry import detect, extract, open_source, supported_types
from devstack.documents import write_text


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.media_type)
def test_every_format_has_a_reader_and_a_name(row):
    module, _, name = row.implementation.partition(":")
    assert callable(getattr(importlib.import_module(module), name).extract)
    assert row.extensions
    assert row.label


def test_no_type_or_extension_is_listed_twice():
    assert len({row.media_type for row in FORMATS}) == len(FORMATS)
    assert len(BY_EXTENSION) == sum(len(row.extensions) for row in FORMATS)


def test_the_list_for_people_is_the_list_of_readers():
    assert [row.media_type for row in supported_types()] == [row.media_type for row in FORMATS]
    assert {row.reader for row in supported_types()} >= {"Tika server", "Pdf", "Markdown"}


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.PDF", "pdf"),
        ("../../x.txt", "txt"),
        ("a\\b.Md", "md"),
        ("README", ""),
        ("a.tar.gz", "gz"),
        ("..", ""),
    ],
)
def test_extensions_come_from_the_last_part_of_a_name(name, extension):
    assert extension_of(name) == extension


@pytest.mark.parametrize(
    ("name", "text", "media_type"),
    [
        ("README", "Read me.", "text/plain"),
        ("METADATA", "Name: x\n\n# Title", "text/plain"),
        ("notes.unknown", "Text.", "text/plain"),
        ("page", "<!DOCTYPE html><p>x", "text/html"),
        ("feed", "<?xml version='1.0'?><a/>", "application/xml"),
        ("a.py", "print()", "text/x-source"),
        ("a.yml", "a: 1", "application/yaml"),
        ("a.md", "<html> stays Markdown by its name", "text/markdown"),
    ],
)
def test_the_name_decides_among_kinds_of_text(name, text, media_type, tmp_path: Path):
    assert detect(write_text(tmp_path / "stored", text), name) == media_type


NAMES = ["a", "a.txt", "a.md", "a.html", "a.json", "a.ndjson", "a.xml", "a.csv", "a.eml", "a.py", "a.ipynb"]
STARTS = [
    "",
    "PK\x03\x04",
    "%PDF-1.4\n",
    "\x1f\x8b",
    "BZh9",
    "\ufeff",
    "<html><table><tr>",
    "Subject: x\n",
    "# a\n\n",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from([*NAMES, "a.pdf", "a.docx", "a.zip", "a.gz", "a.tar"]),
    start=st.sampled_from(STARTS),
    data=st.one_of(st.binary(max_size=600), st.text(max_size=300).map(str.encode)),
)
def test_whatever_the_bytes_are_the_answer_is_a_document_or_our_own_error(name, start, data, tmp_path: Path):
    path = tmp_path / "stored"
    path.write_bytes(start.encode("latin-1", "ignore") + data)
    try:
        document = extract(open_source(path, name), ExtractionContext("http://127.0.0.1:9"))
    except (PermanentError, UnavailableError):
        return
    assert document.text.strip()
    for block in document.blocks:
        inner = document.text[block.start : block.end]
        assert inner == inner.strip() != ""
