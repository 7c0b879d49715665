"""What cannot be read says why, in words that tell the user what to do."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from app.errors import (
    InvalidInputError,
    TooLargeError,
    UnavailableError,
    UnreadableFileError,
    UnsupportedTypeError,
)
from app.pipeline.extraction.context import ExtractionContext, ExtractionLimits
from app.pipeline.extraction.registry import extract, open_source
from devstack.documents import (
    Section,
    write_docx,
    write_pdf,
    write_text,
    write_zip,
)
from tests.contract.extraction.conftest import Read
from tests.support.archives import write_gzip, write_zip_bomb

MEBIBYTE = 2**20
NO_PAGES = b"""%PDF-1.4
1 0 obj <</Type/Catalog/Pages 2 0 R>> endobj
2 0 obj <</Type/Pages/Kids[]/Count 0>> endobj
trailer <</Root 1 0 R>>
%%EOF
"""


def made(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.txt", "a.zip", "a"])
def test_an_empty_file_is_called_empty(name: str, tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match="is empty"):
        read(made(tmp_path / name, b""))


def test_a_file_of_blanks_holds_no_text(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match="holds no text"):
        read(made(tmp_path / "a.txt", b" \n\t\n"))


def test_a_pdf_with_another_name_is_named_for_what_it_is(tmp_path: Path, read: Read):
    path = write_pdf(tmp_path / "a.docx", ["Text"])
    with pytest.raises(
        InvalidInputError, match=r'named as "Word document".*content is "PDF document"'
    ) as caught:
        read(path)
    assert "Rename it to .pdf" in caught.value.message


def test_a_program_named_pdf_is_unmasked(tmp_path: Path, read: Read):
    with pytest.raises(UnsupportedTypeError, match=r'named as "PDF document".*a Windows program'):
        read(made(tmp_path / "invoice.pdf", b"MZ\x90\0" + bytes(200)))


def test_an_image_is_not_supported(tmp_path: Path, read: Read):
    with pytest.raises(UnsupportedTypeError, match="a JPEG image, which cannot be read"):
        read(made(tmp_path / "a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100)))


def test_binary_data_named_txt_is_not_taken_for_text(tmp_path: Path, read: Read):
    with pytest.raises(UnsupportedTypeError, match="binary data"):
        read(made(tmp_path / "a.txt", bytes(range(256)) * 20))


def test_an_encrypted_pdf_asks_for_its_password_to_be_removed(tmp_path: Path, read: Read):
    path = write_pdf(tmp_path / "a.pdf", ["Secret"], password="sesame")
    with pytest.raises(UnreadableFileError, match=r"a\.pdf is password-protected\. Remove the password"):
        read(path)


def test_an_encrypted_office_document_asks_the_same(tmp_path: Path, read: Read):
    ole = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(1024)
        + "EncryptedPackage".encode("utf-16-le")
        + bytes(512)
    )
    with pytest.raises(UnreadableFileError, match=r"a\.docx is password-protected"):
        read(made(tmp_path / "a.docx", ole))


@pytest.mark.parametrize("cut", [0.3, 0.6])
def test_a_broken_pdf_fails_with_its_cause(cut: float, tmp_path: Path, read: Read):
    whole = write_pdf(tmp_path / "whole.pdf", ["Some text"] * 3).read_bytes()
    with pytest.raises(UnreadableFileError, match=r"a\.pdf is damaged|a\.pdf holds no"):
        read(made(tmp_path / "a.pdf", whole[: int(len(whole) * cut)]))


def test_a_broken_word_document_fails_with_its_cause(tmp_path: Path, read: Read):
    whole = write_docx(tmp_path / "whole.docx", [Section("Title", ["Text"])]).read_bytes()
    with pytest.raises(UnreadableFileError, match=r"a\.docx is damaged: the Word document is incomplete"):
        read(made(tmp_path / "a.docx", whole[: len(whole) // 2]))


def test_a_word_document_that_tika_refuses_fails_with_its_cause(tmp_path: Path, read: Read):
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<broken")
        archive.writestr("word/document.xml", "<broken")
    with pytest.raises(UnreadableFileError, match=r"a\.docx"):
        read(path)


def test_a_book_with_damaged_compression_fails_with_its_cause(tmp_path: Path, read: Read):
    path = tmp_path / "a.epub"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
    data = bytearray(path.read_bytes())
    data[38:50] = b"\xff" * 12
    with pytest.raises(UnreadableFileError, match=r"a\.epub is damaged: the EPUB book is incomplete"):
        read(made(path, bytes(data)))


def test_a_pdf_without_pages_says_so(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match=r"a\.pdf (holds no pages|is damaged)"):
        read(made(tmp_path / "a.pdf", NO_PAGES))


def test_a_scanned_pdf_says_that_there_is_no_ocr(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match=r"no text on any of its 2 pages.*scanned.*OCR"):
        read(write_pdf(tmp_path / "a.pdf", ["", ""]))


def test_a_zip_bomb_stops_at_the_ratio(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match=r"a\.zip: .*archive_ratio"):
        read(write_zip_bomb(tmp_path / "a.zip", megabytes=64))


def test_an_archive_stops_at_its_unpacked_size(tmp_path: Path, read: Read):
    members = {f"{n}.txt": bytes(range(32, 127)) * 5000 for n in range(5)}
    limits = ExtractionLimits(archive_bytes=MEBIBYTE)
    with pytest.raises(UnreadableFileError, match=r"more than 1 MiB.*archive_bytes"):
        read(write_zip(tmp_path / "a.zip", members), limits=limits)


def test_a_gzip_bomb_stops_too(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match="archive_ratio"):
        read(made(tmp_path / "a.txt.gz", gzip.compress(bytes(32 * MEBIBYTE))))


def test_a_bomb_inside_an_archive_fails_the_upload(tmp_path: Path, read: Read):
    inner = write_zip_bomb(tmp_path / "inner.zip", megabytes=32).read_bytes()
    with pytest.raises(UnreadableFileError, match="archive_ratio"):
        read(write_zip(tmp_path / "a.zip", {"inner.zip": inner, "good.txt": b"words"}))


def test_an_archive_of_too_many_files_stops(tmp_path: Path, read: Read):
    path = write_zip(tmp_path / "a.zip", {f"{n}.txt": b"x" for n in range(20)})
    with pytest.raises(UnreadableFileError, match="more than 10 files"):
        read(path, limits=ExtractionLimits(archive_members=10))


def test_archives_nested_too_deeply_are_skipped_with_a_warning(tmp_path: Path, read: Read):
    data = b"words"
    name = "deep.txt"
    for level in range(5):
        data, name = (
            write_zip(tmp_path / f"{level}.zip", {name: data, "top.txt": b"top"}).read_bytes(),
            "inner.zip",
        )
    document = read(made(tmp_path / "a.zip", data))
    assert "top" in document.text
    assert any("levels deep" in warning for warning in document.warnings)


def test_an_encrypted_member_fails_alone(tmp_path: Path, read: Read):
    path = write_zip(tmp_path / "a.zip", {"secret.txt": b"hidden", "open.txt": b"visible"})
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the "encrypted" flag of the first
        data[data.find(magic) + offset] |= 1
    document = read(made(path, bytes(data)))
    assert "visible" in document.text
    assert any("secret.txt" in warning and "password" in warning for warning in document.warnings)


def test_an_archive_without_readable_files_fails_with_the_reasons(tmp_path: Path, read: Read):
    with pytest.raises(UnreadableFileError, match=r"holds no file that can be read: .*a\.png"):
        read(write_zip(tmp_path / "a.zip", {"a.png": b"\x89PNG\r\n\x1a\n"}))


def test_a_damaged_archive_says_so(tmp_path: Path, read: Read):
    whole = write_gzip(tmp_path / "whole.gz", b"words " * 1000).read_bytes()
    with pytest.raises(UnreadableFileError, match="damaged"):
        read(made(tmp_path / "a.txt.gz", whole[:-20]))


def test_member_names_with_dots_are_labels_and_nothing_is_written_outside(tmp_path: Path, read: Read):
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    document = read(write_zip(folder / "a.zip", {"../../evil.txt": b"words", "/etc/passwd.txt": b"more"}))
    headings = [document.text[b.start : b.end] for b in document.blocks if b.kind == "heading"]
    assert headings == ["evil.txt", "etc/passwd.txt"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "folder", "inner"]


def test_a_name_with_dots_is_a_label(tmp_path: Path, stack):
    path = write_text(tmp_path / "stored", "Words of the file.")
    source = open_source(path, "../../etc/evil.txt")
    document = extract(source, ExtractionContext(stack.environment["TIKA_SERVER_ENDPOINT"]))
    assert (source.media_type, document.text) == ("text/plain", "Words of the file.")


def test_a_file_over_the_size_limit_names_the_limit(tmp_path: Path, read: Read):
    with pytest.raises(TooLargeError, match="limit is 1 MiB per file"):
        read(made(tmp_path / "a.txt", b"a" * (MEBIBYTE + 1)), limits=ExtractionLimits(file_bytes=MEBIBYTE))


def test_more_text_than_allowed_names_the_limit(tmp_path: Path, read: Read):
    with pytest.raises(TooLargeError, match="the limit is 10"):
        read(made(tmp_path / "a.txt", b"a" * 11), limits=ExtractionLimits(text_characters=10))


def test_a_pdf_over_its_time_limit_fails_with_the_limit(tmp_path: Path, read: Read):
    path = write_pdf(tmp_path / "a.pdf", ["Some text"] * 200)
    with pytest.raises(UnreadableFileError, match=r"could not be read within 0\.001 seconds"):
        read(path, limits=ExtractionLimits(timeout_seconds=0.001))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b'{"a": [1, 2', "not valid JSON"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.ndjson", b"no\njson\n", "No line of the file"),
        ("a.ipynb", b"{}", "no list of cells"),
        ("a.xml", b"<a><b></a>", "not valid XML"),
        ("a.eml", b"\n\njust text", "no mail headers"),
        ("a.html", b"<!-- nothing -->", "holds no"),
    ],
)
def test_broken_text_formats_name_what_is_wrong(
    name: str, data: bytes, message: str, tmp_path: Path, read: Read
):
    with pytest.raises(UnreadableFileError, match=message):
        read(made(tmp_path / name, data))


def test_entities_of_xml_are_not_expanded(tmp_path: Path, read: Read):
    xml = b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><a><p>before &e; after</p></a>'
    assert read(made(tmp_path / "a.xml", xml)).text == "before &e; after"


def test_without_tika_the_error_asks_for_another_try(tmp_path: Path):
    path = write_docx(tmp_path / "a.docx", [Section("Title", ["Text"])])
    with pytest.raises(UnavailableError, match=r"Tika at http://127\.0\.0\.1:9 does not answer"):
        extract(open_source(path, "a.docx"), ExtractionContext("http://127.0.0.1:9"))
