from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from app.errors import InvalidInputError, TooLargeError, UnreadableFileError
from app.services.uploads import Upload, clean_name, received


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\docs\\a.pdf", "a.pdf"),
        ("a\x00b\r\n.txt", "ab.txt"),
        ("exe\u202etxt.pdf", "exetxt.pdf"),
        ("  Straße.pdf ", "Straße.pdf"),
        ("e\u0301.txt", "é.txt"),
    ],
)
def test_a_name_is_the_last_part_of_a_path_without_control_characters(raw: str, clean: str):
    assert clean_name(raw) == clean


def test_a_long_name_keeps_its_ending():
    name = clean_name("x" * 400 + ".pdf")
    assert len(name) == 255
    assert name.endswith("x.pdf")


@pytest.mark.parametrize("raw", ["", "..", "a/..", "/", "\x00"])
def test_a_name_of_nothing_is_refused(raw: str):
    with pytest.raises(InvalidInputError):
        clean_name(raw)


def test_a_stream_is_counted_and_hashed_on_its_way_to_disk(tmp_path: Path):
    with received(Upload("a.txt", BytesIO(b"abc")), most_bytes=3, scratch_dir=tmp_path) as file:
        assert file.path.read_bytes() == b"abc"
        assert file.size_bytes == 3
        assert file.content_hash.startswith("ba7816bf8f01cfea")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_over_the_limit_is_cut_off_wherever_it_lies_about_its_size(tmp_path: Path):
    for declared in (None, 3, 4):
        upload = Upload("a.txt", BytesIO(b"abcd"), declared)
        with (
            pytest.raises(TooLargeError, match="MAX_FILE_SIZE_MB"),
            received(upload, most_bytes=3, scratch_dir=tmp_path),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_an_empty_stream_is_no_file(tmp_path: Path):
    with (
        pytest.raises(UnreadableFileError, match="empty"),
        received(Upload("a", BytesIO()), most_bytes=3, scratch_dir=tmp_path),
    ):
        pass
