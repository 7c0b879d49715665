"""ZIP, TAR and compressed files: one document, each member a section under its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from app.errors import UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.assemble import merge
from app.pipeline.extraction.base import SourceFile
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.members import LimitReachedError, Member, MemberReader


def _gzip(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.GzipFile(path))


_SINGLE: dict[str, Callable[[Path], IO[bytes]]] = {
    "application/gzip": _gzip,
    "application/x-bzip2": bz2.BZ2File,
    "application/x-xz": lzma.LZMAFile,
}
_PACKED_TAR = {"tgz": ".tar", "tbz2": ".tar", "txz": ".tar"}
_JUNK = ("__MACOSX/", ".DS_Store", "Thumbs.db")


class ArchiveExtractor:
    """Reads every member of a supported type, within the limits of the context."""

    def __init__(self, context: ExtractionContext) -> None:
        self._context = context

    def extract(self, source: SourceFile) -> Document:
        """Raises UnreadableFileError: damaged, over a limit, protected, or no readable member."""
        reader = MemberReader(self._context)
        try:
            documents = reader.read_all(self._members(source))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, OSError) as error:
            raise UnreadableFileError(
                f"{source.name} is a damaged archive ({error})", field="file"
            ) from error
        except LimitReachedError as error:
            raise LimitReachedError(f"{source.name}: {error.message}", field="file") from error
        if not documents:
            raise UnreadableFileError(_nothing_readable(source.name, reader.warnings), field="file")
        merged = merge(documents, self._context.config.rendering())
        return Document(
            text=merged.text,
            blocks=merged.blocks,
            parts=merged.parts,
            media_type=source.media_type,
            metadata={"files": str(len(documents)), "skipped_files": str(len(reader.warnings))},
            warnings=tuple(reader.warnings),
        )

    def _members(self, source: SourceFile) -> Iterator[Member]:
        if source.media_type == "application/zip":
            return _zip_members(source)
        if source.media_type == "application/x-tar" or _is_packed_tar(source):
            return _tar_members(source)
        return iter([_single_member(source)])


def _nothing_readable(name: str, reasons: list[str]) -> str:
    shown = "; ".join(reasons[:3]) + ("; …" if len(reasons) > 3 else "")  # noqa: PLR2004 - readability
    return f"{name} holds no file that can be read" + (f": {shown}" if shown else "")


def _zip_members(source: SourceFile) -> Iterator[Member]:
    with zipfile.ZipFile(source.path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and not _is_junk(info.filename):
                yield Member(info.filename, max(1, info.compress_size), partial(archive.open, info))


def _is_junk(name: str) -> bool:
    return name.startswith(_JUNK[0]) or PurePosixPath(name).name in _JUNK


def _is_packed_tar(source: SourceFile) -> bool:
    """A compressed stream may unpack without end; tarfile reads one header and stops."""
    try:
        with _SINGLE[source.media_type](source.path) as stream:
            return bytes(stream.read(262))[257:] == b"ustar"
    except (OSError, EOFError, lzma.LZMAError):
        return False


def _tar_members(source: SourceFile) -> Iterator[Member]:
    """In the stream's order; a compressed archive's members are measured against the whole file."""
    size = source.path.stat().st_size
    with tarfile.open(source.path, "r:*") as archive:
        for info in archive:
            if info.isfile() and not _is_junk(info.name):
                yield Member(info.name, size, partial(_tar_stream, archive, info))


def _tar_stream(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None  # only regular files come here
    return stream


def _single_member(source: SourceFile) -> Member:
    path = PurePosixPath(source.name.replace("\\", "/"))
    suffix = path.suffix.lstrip(".").lower()
    return Member(
        path.stem + _PACKED_TAR.get(suffix, ""),
        source.path.stat().st_size,
        partial(_SINGLE[source.media_type], source.path),
    )
