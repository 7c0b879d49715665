"""One suite for every reader: the same content, written in many formats, comes back."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest

from app.pipeline.chunking.registry import build, parse_chunking_config
from app.pipeline.document import Document
from app.pipeline.extraction.registry import detect
from devstack.documents import (
    Section,
    write_docx,
    write_eml,
    write_pdf,
    write_pptx,
    write_samples,
    write_text,
    write_xlsx,
    write_zip,
)
from tests.contract.extraction.conftest import Read
from tests.support.archives import write_gzip, write_tar

PROSE = "Whales sing across the ocean and are heard by other whales hundreds of miles away."
SECTIONS = [
    Section(
        "Sea animals",
        [PROSE, "A second paragraph with naïve café."],
        items=["krill", "plankton"],
        rows=[["animal", "weight"], ["whale", "100 t"], ["cod", "5 kg"]],
    ),
    Section("Depth of the sea", ["It is dark below."], level=2),
]
EXTENSIONS = (
    *("pdf", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "rtf", "html", "md", "txt", "eml", "csv"),
    *("tsv", "json", "ndjson", "zip"),
)
WITH_HEADINGS = ("docx", "odt", "epub", "html", "md", "pptx")
WITH_TABLES = ("docx", "odt", "epub", "html", "md", "xlsx", "ods", "csv", "tsv")
WITH_LISTS = ("docx", "odt", "epub", "html", "md")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    return {path.suffix[1:]: path for path in write_samples(folder, SECTIONS, title="sample")}


def assert_sound(document: Document) -> None:
    assert unicodedata.is_normalized("NFC", document.text)
    for block in document.blocks:
        inner = document.text[block.start : block.end]
        assert inner
        assert inner == inner.strip()
        assert (block.level in range(1, 7)) == (block.kind == "heading")
    for left, right in pairwise(document.blocks):
        assert left.end <= right.start


def of_kind(document: Document, kind: str) -> list[str]:
    return [document.text[block.start : block.end] for block in document.blocks if block.kind == kind]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_words_arrive_whole_and_the_blocks_are_sound(
    extension: str, samples: dict[str, Path], read: Read
):
    document = read(samples[extension])
    assert_sound(document)
    words = " ".join(document.text.split())
    assert PROSE in words
    assert "It is dark below." in words
    assert "café" in words
    assert document.language == "en"
    assert document.media_type == detect(samples[extension], samples[extension].name)


@pytest.mark.parametrize("extension", WITH_HEADINGS)
def test_headings_keep_their_order_and_depth(extension: str, samples: dict[str, Path], read: Read):
    document = read(samples[extension])
    assert of_kind(document, "heading") == ["Sea animals", "Depth of the sea"]
    first, second = (block.level for block in document.blocks if block.kind == "heading")
    assert first < second or extension == "pptx"


@pytest.mark.parametrize("extension", WITH_TABLES)
def test_tables_keep_rows_and_columns(extension: str, samples: dict[str, Path], read: Read):
    (table,) = of_kind(read(samples[extension]), "table")
    assert len(table.splitlines()) >= 3


@pytest.mark.parametrize("extension", WITH_LISTS)
def test_lists_keep_their_items(extension: str, samples: dict[str, Path], read: Read):
    items = [item.lstrip("- ") for item in of_kind(read(samples[extension]), "list_item")]
    assert items == ["krill", "plankton"]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("strategy", ["recursive", "tokens", "sentences", "markdown", "code", "tables"])
def test_every_strategy_cuts_every_format(
    extension: str, strategy: str, samples: dict[str, Path], read: Read
):
    document = read(samples[extension])
    config = {"strategy": strategy, "chunk_size": 40, "chunk_overlap": 5}
    chunks = list(build(parse_chunking_config(config)).chunk(document))
    assert chunks
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text


def test_a_passage_on_page_seven_of_a_pdf_is_on_page_seven(tmp_path: Path, read: Read):
    pages = [f"This is what stands on the page with the number {number}." for number in range(1, 10)]
    pages[6] = "The narwhal's tusk is a tooth."
    document = read(write_pdf(tmp_path / "book.pdf", pages, title="Book", outline={"Nothing": 2}))
    assert (document.page_count, document.title) == (9, "Book")
    config = parse_chunking_config({"chunk_size": 60, "chunk_overlap": 0})
    (chunk,) = [chunk for chunk in build(config).chunk(document) if "narwhal" in chunk.text]
    assert chunk.page == 7


def test_bookmarks_of_a_pdf_make_headings(tmp_path: Path, read: Read):
    pages = ["Whales\nThey sing.", "Cod\nThey swim."]
    document = read(write_pdf(tmp_path / "a.pdf", pages, outline={"Whales": 1, "Cod": 2}))
    assert of_kind(document, "heading") == ["Whales", "Cod"]


def test_running_heads_and_page_numbers_of_a_pdf_are_left_out(tmp_path: Path, read: Read):
    bodies = [
        f"Line one of {n}.\nLine two of {n}.\nLine three of {n}." for n in ("ay", "bee", "cee", "dee", "ee")
    ]
    pages = [f"The Big Book\n{body}\nPage {number}" for number, body in enumerate(bodies, start=1)]
    text = read(write_pdf(tmp_path / "a.pdf", pages)).text
    assert "Big Book" not in text
    assert "Page" not in text
    assert all(body.split("\n")[0] in text for body in bodies)


def test_pages_without_text_are_counted(tmp_path: Path, read: Read):
    document = read(write_pdf(tmp_path / "a.pdf", ["Some text.", "", "More text."]))
    assert document.warnings == ("1 of 3 pages holds no text (page 2); scanned pages are not recognised",)


def test_slides_are_pages(tmp_path: Path, read: Read):
    document = read(write_pptx(tmp_path / "a.pptx", SECTIONS, notes=["A note for the speaker"]))
    pages = {document.text[block.start : block.end]: block.page for block in document.blocks}
    assert pages["Sea animals"] == 1
    assert pages["Depth of the sea"] == 2
    assert "A note for the speaker" in document.text


def test_numbers_and_all_sheets_of_a_workbook_arrive(tmp_path: Path, read: Read):
    sheets: dict[str, list[list[object]]] = {
        "Year 2023": [["month", "sum"], ["May", 12.5]],
        "Year 2024": [["month", "sum"], ["June", 99]],
    }
    document = read(write_xlsx(tmp_path / "a.xlsx", sheets))
    assert of_kind(document, "heading") == ["Year 2023", "Year 2024"]
    assert "May\t12.5" in document.text
    assert "June\t99" in document.text


def test_a_long_table_repeats_its_header(tmp_path: Path, read: Read):
    rows = [["name", "value"], *([f"entry number {n}", str(n)] for n in range(300))]
    document = read(write_xlsx(tmp_path / "a.xlsx", {"S": rows}))
    tables = of_kind(document, "table")
    assert len(tables) > 3
    assert all(table.startswith("name\tvalue\n") for table in tables)
    assert sum(len(table.splitlines()) - 1 for table in tables) == 300


def test_a_message_brings_its_headers_and_attachments(tmp_path: Path, read: Read):
    letter = write_docx(tmp_path / "letter.docx", [Section("Enclosed", ["Text of the letter."])])
    message = write_eml(
        tmp_path / "a.eml",
        subject="Whale watching",
        body="See the letter.\n\nYours, Ada",
        html_body="<p>See the letter.</p>",
        attachments={"letter.docx": letter.read_bytes(), "broken.pdf": b"%PDF-1.4 nothing"},
    )
    document = read(message)
    assert_sound(document)
    assert document.title == "Whale watching"
    assert document.metadata["from"] == "Ada <ada@example.org>"
    assert of_kind(document, "heading") == ["Whale watching", "letter.docx", "Enclosed"]
    assert "Text of the letter." in document.text
    assert document.text.count("See the letter.") == 1
    assert any("broken.pdf" in warning for warning in document.warnings)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_an_archive_is_a_section_per_file(compression: str, tmp_path: Path, read: Read):
    members = {
        "notes/one.txt": b"First file.",
        "two.md": b"# Second\n\nWords.",
        "photo.png": b"\x89PNG\r\n\x1a\n",
    }
    name = f"a.tar.{compression}" if compression else "a.tar"
    document = read(write_tar(tmp_path / name, members, compression=compression))
    assert_sound(document)
    assert of_kind(document, "heading") == ["notes/one.txt", "two.md", "Second"]
    assert document.metadata == {"files": "2", "skipped_files": "1"}
    assert len(document.warnings) == 1
    assert "photo.png" in document.warnings[0]
    assert "PNG image" in document.warnings[0]


def test_an_archive_in_an_archive_is_read(tmp_path: Path, read: Read):
    inner = write_zip(tmp_path / "inner.zip", {"deep.txt": b"Deep words."}).read_bytes()
    document = read(write_zip(tmp_path / "a.zip", {"inner.zip": inner}))
    assert of_kind(document, "heading") == ["inner.zip", "deep.txt"]


def test_a_compressed_file_is_its_content(tmp_path: Path, read: Read):
    assert "Whales" in read(write_gzip(tmp_path / "a.txt.gz", b"Whales sing.")).text


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]
)
def test_text_in_common_encodings_is_read(encoding: str, tmp_path: Path, read: Read):
    text = "Der Wal hört die Größe des Meeres. " * 5
    assert read(write_text(tmp_path / "a.txt", text, encoding=encoding)).text == text.strip()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Киты поют в океане, и другие киты слышат их на расстоянии сотен миль. "),
        ("koi8-r", "Киты поют в океане, и другие киты слышат их на расстоянии сотен миль. "),
        ("shift_jis", "クジラは海で歌い、遠くの仲間がそれを聞きます。"),
        ("gb18030", "鲸鱼在海洋中歌唱,几百英里外的其他鲸鱼都能听到。"),
    ],
)
def test_text_in_older_encodings_is_recognised(encoding: str, text: str, tmp_path: Path, read: Read):
    assert read(write_text(tmp_path / "a.txt", text * 5, encoding=encoding)).text == (text * 5).strip()
