"""Takes one uploaded stream to a scratch file: counted, hashed, limited, named; never held in memory."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from app.errors import InvalidInputError, TooLargeError, UnreadableFileError

_BLOCK_BYTES = 1024 * 1024
_NAME_LENGTH = 255
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sends: the name is untrusted, `size_bytes` is what it declares, if it does."""

    name: str
    stream: BinaryIO
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """An upload on local disk."""

    path: Path
    name: str
    size_bytes: int
    content_hash: str


@contextmanager
def received(upload: Upload, *, most_bytes: int, scratch_dir: Path | None) -> Iterator[Received]:
    """Copy the stream to a file that lives as long as the block.

    Raises InvalidInputError (no usable name), TooLargeError, UnreadableFileError (empty).
    """
    name = clean_name(upload.name)
    if upload.size_bytes is not None and upload.size_bytes > most_bytes:
        raise _too_large(most_bytes)
    with TemporaryDirectory(prefix="upload-", dir=scratch_dir) as folder:
        path = Path(folder) / "content"
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file:
            while block := upload.stream.read(_BLOCK_BYTES):
                size += len(block)
                if size > most_bytes:
                    raise _too_large(most_bytes)
                digest.update(block)
                file.write(block)
        if not size:
            raise UnreadableFileError("the file is empty (0 bytes)")
        yield Received(path, name, size, digest.hexdigest())


def clean_name(raw: str) -> str:
    """The last part of a path of any system, without control characters, at most 255 characters.

    It is only ever shown and compared, never used as a path. Raises InvalidInputError if nothing is left.
    """
    last = re.split(r"[/\\]", raw)[-1]
    # Cf: invisible direction marks make "txt.exe" look like "exe.txt".
    visible = "".join(char for char in last if unicodedata.category(char) not in {"Cc", "Cf", "Cs"})
    name = unicodedata.normalize("NFC", visible).strip()
    if name in {"", ".", ".."}:
        raise InvalidInputError("the file has no name", field="files")
    if len(name) <= _NAME_LENGTH:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > _NAME_LENGTH // 4:
        return name[:_NAME_LENGTH]
    return f"{stem[: _NAME_LENGTH - len(ending) - 1]}.{ending}"


def _too_large(most_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the file is larger than {most_bytes / _MIB:g} MiB, the limit of one file (MAX_FILE_SIZE_MB)"
    )
