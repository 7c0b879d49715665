from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest

from app.errors import NotFoundError, UnavailableError
from app.storage.s3 import BlobStore


def test_bytes_come_back_with_their_type_and_checksum(blobs, key_prefix):
    key = f"{key_prefix}note"
    blobs.put_bytes(key, "Grüße".encode(), media_type="text/plain", sha256="ab" * 32)

    info = blobs.stat(key)

    assert blobs.get_bytes(key) == "Grüße".encode()
    assert (info.size_bytes, info.media_type, info.sha256) == (7, "text/plain", "ab" * 32)


def test_an_empty_object_is_an_object(blobs, key_prefix):
    blobs.put_bytes(f"{key_prefix}empty", b"", media_type="text/plain")
    assert blobs.get_bytes(f"{key_prefix}empty") == b""


def test_a_file_of_several_parts_survives_the_round_trip(blobs, key_prefix, tmp_path):
    content = os.urandom(20 << 20)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)

    blobs.put_file(f"{key_prefix}big", source, media_type="application/pdf", sha256="cd" * 32)
    blobs.download(f"{key_prefix}big", target)

    assert target.read_bytes() == content
    assert blobs.stat(f"{key_prefix}big").media_type == "application/pdf"


def test_an_open_stream_is_stored_without_knowing_its_length(blobs, key_prefix):
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self._rest = io.BytesIO(b"x" * 100_000)

        def readable(self):
            return True

        def seekable(self):
            return False

        def readinto(self, buffer):
            return self._rest.readinto(buffer)

    blobs.put_file(f"{key_prefix}stream", Unseekable(), media_type="text/plain")
    assert blobs.get_bytes(f"{key_prefix}stream") == b"x" * 100_000


def test_a_reader_gives_the_object_in_pieces(blobs, key_prefix):
    blobs.put_bytes(f"{key_prefix}lines", b"one\ntwo\nthree", media_type="text/plain")
    with blobs.open(f"{key_prefix}lines") as reader:
        assert reader.read(2) == b"on"
        assert list(reader) == [b"e\n", b"two\n", b"three"]


def test_what_is_not_there_is_not_found(blobs, key_prefix, tmp_path):
    key = f"{key_prefix}nothing"
    for read in (blobs.get_bytes, blobs.stat, blobs.open, lambda k: blobs.download(k, tmp_path / "x")):
        with pytest.raises(NotFoundError):
            read(key)
    assert not blobs.exists(key)
    assert list(tmp_path.iterdir()) == []


def test_listing_crosses_pages_and_stays_within_its_prefix(blobs, key_prefix):
    for number in range(3):
        blobs.put_bytes(f"{key_prefix}a/{number}", b"12", media_type="text/plain")
    blobs.put_bytes(f"{key_prefix}b/0", b"1", media_type="text/plain")

    found = list(blobs.list(f"{key_prefix}a/"))

    assert [info.key for info in found] == [f"{key_prefix}a/{number}" for number in range(3)]
    assert {info.size_bytes for info in found} == {2}


def test_deleting_takes_many_keys_and_forgives_missing_ones(blobs, key_prefix):
    keys = [f"{key_prefix}{number}" for number in range(5)]
    for key in keys[:3]:
        blobs.put_bytes(key, b"1", media_type="text/plain")

    blobs.delete(keys)

    assert list(blobs.list(key_prefix)) == []


def test_a_bucket_is_made_once_and_then_left_alone(blobs):
    other = BlobStore(replace(blobs.options, bucket="made-by-a-test"))
    with pytest.raises(UnavailableError, match="made-by-a-test"):
        other.ping()

    other.ensure_bucket()
    other.put_bytes("kept", b"1", media_type="text/plain")
    other.ensure_bucket()

    other.ping()
    assert other.exists("kept")


def test_a_wrong_secret_is_refused_and_never_printed(blobs):
    stranger = BlobStore(replace(blobs.options, secret_access_key="wrong-secret"))
    with pytest.raises(UnavailableError) as caught:
        stranger.put_bytes("x", b"1", media_type="text/plain")
    assert "wrong-secret" not in str(caught.value) + repr(stranger.options)


def test_a_dead_server_is_unavailable_and_nothing_is_lost_when_it_returns(breakable_stack, blobs, key_prefix):
    blobs.put_bytes(f"{key_prefix}kept", b"1", media_type="text/plain")
    breakable_stack.kill("s3")
    with pytest.raises(UnavailableError, match="does not answer"):
        blobs.get_bytes(f"{key_prefix}kept")
    breakable_stack.restart("s3")
    assert blobs.get_bytes(f"{key_prefix}kept") == b"1"


def test_a_child_process_makes_its_own_client(blobs, key_prefix):
    blobs.put_bytes(f"{key_prefix}shared", b"1", media_type="text/plain")
    child = os.fork()
    if child == 0:
        os._exit(0 if blobs.get_bytes(f"{key_prefix}shared") == b"1" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert blobs.get_bytes(f"{key_prefix}shared") == b"1"
