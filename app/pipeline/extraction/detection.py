"""Decides what a file is from its content, and checks that its name agrees."""

from __future__ import annotations

import lzma
import mmap
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from app.errors import InvalidInputError, UnreadableFileError, UnsupportedTypeError
from app.pipeline.extraction.characters import clean, decode, is_text
from app.pipeline.extraction.formats import BY_EXTENSION, BY_MEDIA_TYPE, Format

_HEAD_BYTES = 64 * 1024
_PDF_HEAD_BYTES = 1024  # readers accept so much in front of the header
_TAR_MAGIC_AT = 257
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = {
    "EncryptedPackage": "encrypted",
    "WordDocument": "application/msword",
    "Workbook": "application/vnd.ms-excel",
    "PowerPoint Document": "application/vnd.ms-powerpoint",
    "__substg1.0_": "application/vnd.ms-outlook",
    "Book": "application/vnd.ms-excel",
}
_OOXML_PARTS = {
    "word/": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xl/": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "ppt/": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
_MAGIC = (
    (b"{\\rtf", "application/rtf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
)
_FOREIGN = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"ID3", "an MP3 sound"),
    (b"OggS", "an Ogg sound or film"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet table"),
)
# What zipfile raises over damaged archives: each layer has its own kinds.
_ZIP_FAULTS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(ValueError, NotImplementedError, RuntimeError),
)
_ZIP_BASED = ("openxmlformats", "opendocument", "epub", "application/zip")


def extension_of(name: str) -> str:
    """The last extension in lower case without its dot; "" where there is none. Names are labels only."""
    return PurePosixPath(name.replace("\\", "/")).suffix.lstrip(".").lower()


def detect(path: Path, name: str) -> str:
    """The media type of a file, by content, with the name deciding among kinds of text.

    Raises UnreadableFileError (empty, password-protected, damaged container), InvalidInputError (content
    of another readable type than the name says) or UnsupportedTypeError (nothing reads this content); the
    messages say what the content is and what the name says.
    """
    if path.stat().st_size == 0:
        raise UnreadableFileError(f"{name} is empty (0 bytes)", field="file")
    named = BY_EXTENSION.get(extension_of(name))
    content = sniff(path, named, name)
    if content is None:
        raise UnsupportedTypeError(_unsupported(path, name, named), field="file")
    if named is None or named.media_type == content:
        return content
    if content == "text":
        return named.media_type
    actual = BY_MEDIA_TYPE[content]
    raise InvalidInputError(
        f"{name} is named as {_quoted(named)}, but its content is {_quoted(actual)}. "
        f"Rename it to .{actual.extensions[0]} and upload it again.",
        field="file",
    )


def sniff(path: Path, named: Format | None, name: str) -> str | None:
    """The media type by content; "text" where a text format's name decides; None for what nothing reads."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _inside_zip(path, named, name)
    if head.startswith(_OLE):
        return _inside_ole(path, name)
    return _by_signature(head, named) or _by_characters(head, named)


def _by_signature(head: bytes, named: Format | None) -> str | None:
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "application/x-tar"
    for magic, media_type in _MAGIC:
        if head.startswith(magic) and not (magic.isalnum() and is_text(head)):
            return media_type
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:_PDF_HEAD_BYTES] and not (named and named.is_text)):
        return "application/pdf"
    return None


def _by_characters(head: bytes, named: Format | None) -> str | None:
    if any(head.startswith(magic) for magic, _ in _FOREIGN if not magic.isalnum() or b"\0" in head):
        return None
    if not is_text(head):
        return None
    return "text" if named is not None and named.is_text else _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    """What text is when its name does not tell."""
    try:
        start = clean(decode(head[:4096])).lstrip()[:200].lower()
    except UnreadableFileError:  # a character cut at the end of the sample
        start = head[:200].decode("latin-1").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "text/html"
    return "application/xml" if start.startswith("<?xml") else "text/plain"


def _inside_zip(path: Path, named: Format | None, name: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            if "mimetype" in members and archive.getinfo("mimetype").file_size < 200:  # noqa: PLR2004 - a media type
                return _open_document(archive, name)
    except _ZIP_FAULTS as error:
        label = (
            named.label if named and any(part in named.media_type for part in _ZIP_BASED) else "ZIP archive"
        )
        raise UnreadableFileError(
            f"{name} is damaged: the {label} is incomplete ({error})", field="file"
        ) from error
    if "[Content_Types].xml" in members:
        for prefix, media_type in _OOXML_PARTS.items():
            if any(member.startswith(prefix) for member in members):
                return media_type
    return "application/zip"


def _open_document(archive: zipfile.ZipFile, name: str) -> str:
    declared = archive.read("mimetype").decode("ascii", "replace").strip().removesuffix("-template")
    manifest = "META-INF/manifest.xml"
    if declared.startswith("application/vnd.oasis") and manifest in archive.namelist():
        with archive.open(manifest) as file:
            if b"encryption-data" in file.read(2**20):
                raise UnreadableFileError(_protected(name), field="file")
    return declared if declared in BY_MEDIA_TYPE else "application/zip"


def _inside_ole(path: Path, name: str) -> str | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for stream, media_type in _OLE_STREAMS.items():
            if data.find(stream.encode("utf-16-le")) >= 0:
                if media_type == "encrypted":
                    raise UnreadableFileError(_protected(name), field="file")
                return media_type
    return None


def _protected(name: str) -> str:
    return f"{name} is password-protected. Remove the password and upload it again."


def _unsupported(path: Path, name: str, named: Format | None) -> str:
    content = describe(path)
    if named is None:
        return f"{name} holds {content}, which cannot be read"
    return f"{name} is named as {_quoted(named)}, but its content is {content}, which cannot be read"


def describe(path: Path) -> str:
    """Words for content that nothing reads."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, words in _FOREIGN:
        if head.startswith(magic):
            return words
    return _registered_name(path)


def _registered_name(path: Path) -> str:
    import puremagic

    try:
        matches = puremagic.magic_file(path)
    except (puremagic.PureError, ValueError, OSError):
        matches = []
    name = matches[0].name if matches else ""
    return f"binary data ({name})" if name else "binary data of an unknown type"


def _quoted(row: Format) -> str:
    return f'"{row.label}" (.{row.extensions[0]})'
