"""The port of the extraction stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from app.pipeline.document import Document


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file on local disk, and what the user called it."""

    path: Path
    name: str
    media_type: str  # decided from content, see registry.detect


class Extractor(Protocol):
    """Turns one file into a document."""

    def extract(self, source: SourceFile) -> Document:
        """Read the file.

        Raises UnreadableFileError (with words a user can act on) or UnavailableError (Tika is away).
        """
        ...
