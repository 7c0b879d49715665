"""Makers of archives, good and bad, for tests."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_tar(path: Path, members: Mapping[str, bytes], *, compression: str = "") -> Path:
    """Write a TAR archive; compression is "", "gz", "bz2" or "xz"."""
    mode: Any = f"w:{compression}" if compression else "w"
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def write_gzip(path: Path, data: bytes) -> Path:
    """Write one gzip-compressed file."""
    path.write_bytes(gzip.compress(data))
    return path


def write_zip_bomb(path: Path, *, megabytes: int = 512) -> Path:
    """Write a ZIP of a few hundred kB with a member of that many MiB of zeros, written as a stream."""
    block = bytes(1024 * 1024)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros.txt", "w", force_zip64=True) as member,
    ):
        for _ in range(megabytes):
            member.write(block)
    return path
