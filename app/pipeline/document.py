"""What extraction hands to chunking: one text and the structure that lies over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code"]


@dataclass(frozen=True, slots=True)
class Block:
    """A structural span of a document: `text[start:end]`.

    Blocks are sorted, do not overlap and hold no leading or trailing white space. `level` is 1-6 for
    headings and 0 otherwise; `page` counts from 1 and is None where the source has no pages.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A file whose text is `text[start:end]`: its name tells what its media type leaves open."""

    name: str
    media_type: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one file, in Unicode NFC; every span in the product indexes into `text`."""

    text: str
    blocks: tuple[Block, ...]
    media_type: str
    title: str | None = None
    language: str | None = None  # ISO 639-1
    page_count: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()  # the file itself, or the files inside an archive or a message, in order
    warnings: tuple[str, ...] = ()  # sentences a user understands, e.g. "3 of 12 pages hold no text"
