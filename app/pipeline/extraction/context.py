"""What an extractor knows besides the file: where Tika is, what was asked for, and the limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.errors import UnreadableFileError
from app.pipeline.extraction.config import ExtractionConfig

_MEBIBYTE = 2**20
_RATIO_FREE_BYTES = 10 * _MEBIBYTE  # small files of blanks compress a thousandfold and hurt nobody


@dataclass(frozen=True, slots=True)
class ExtractionLimits:
    """The most that one uploaded file may cost."""

    file_bytes: int = 100 * _MEBIBYTE
    text_characters: int = 20_000_000
    timeout_seconds: float = 120.0  # one call of a parser
    memory_bytes: int = 1024 * _MEBIBYTE  # on top of a loaded parser
    archive_members: int = 10_000  # over all levels
    archive_bytes: int = 512 * _MEBIBYTE  # unpacked, over all levels
    archive_ratio: int = 200  # unpacked : packed, per member
    archive_depth: int = 3


@dataclass(slots=True)
class UnpackBudget:
    """What unpacking one uploaded file has cost so far, over all levels of nesting."""

    limits: ExtractionLimits
    members: int = 0
    unpacked_bytes: int = 0

    def count_member(self) -> None:
        """Raises UnreadableFileError past the allowed number of files."""
        self.members += 1
        if self.members > self.limits.archive_members:
            raise UnreadableFileError(
                f"The archive holds more than {self.limits.archive_members} files, which is the limit"
            )

    def count_bytes(self, block: int, member_bytes: int, packed_bytes: int) -> None:
        """Account for one unpacked block; raises UnreadableFileError past the size or the ratio."""
        self.unpacked_bytes += block
        if self.unpacked_bytes > self.limits.archive_bytes:
            raise UnreadableFileError(
                f"The archive unpacks to more than {self.limits.archive_bytes // _MEBIBYTE} MiB, "
                "which is the limit (archive_bytes)"
            )
        ratio_limit = self.limits.archive_ratio
        if member_bytes > max(_RATIO_FREE_BYTES, ratio_limit * packed_bytes):
            raise UnreadableFileError(
                f"The archive holds a file that unpacks to more than {ratio_limit} times its packed size, "
                "which is the limit (archive_ratio)"
            )


@dataclass(frozen=True, slots=True)
class ExtractionContext:
    """The way from extraction to the rest of the world; one may serve many files and threads."""

    tika_endpoint: str
    config: ExtractionConfig = field(default_factory=ExtractionConfig)
    limits: ExtractionLimits = field(default_factory=ExtractionLimits)
    depth: int = 0  # 0 for an uploaded file, 1 for a member of an archive, …
    budget: UnpackBudget | None = None  # set by registry.extract, fresh for each uploaded file
