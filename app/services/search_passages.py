"""What stands behind a found point: a passage in Postgres, or what was pushed with the vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.services.search_ranking import Found
from app.services.search_results import Highlight, Match
from app.services.words import lit_spans
from app.storage.postgres.tables import ChunkRow, Item

_TOLD_ELSEWHERE = frozenset({"owner_id", "text", "item_id", "item_title", "file_id", "page"})


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A chunk of an item, as Postgres has it now."""

    chunk: ChunkRow
    item: Item

    @property
    def text(self) -> str:
        """Its words."""
        return self.chunk.text

    def match(self, found: Found, words: tuple[str, ...]) -> Match:
        """It as found; `words` are lit."""
        return Match(
            id=self.chunk.chunk_id,
            chunk_id=self.chunk.chunk_id,
            score=found.score,
            similarity=found.similarity,
            text=self.chunk.text,
            item_id=self.item.item_id,
            item_title=self.item.title,
            dataset_id=self.item.dataset_id,
            file_id=self.item.file_id,
            page=self.chunk.page,
            heading_path=list(self.chunk.heading_path),
            start_char=self.chunk.start_char,
            end_char=self.chunk.end_char,
            metadata={
                **self.chunk.metadata_,
                "media_type": self.item.media_type,
                "language": self.item.language,
            },
            highlights=[Highlight(*span) for span in lit_spans(self.chunk.text, words)],
        )


@dataclass(frozen=True, slots=True)
class PushedPassage:
    """A point of a standalone embedded dataset; `text`, `item_title`, `file_id` and `page` are as pushed."""

    payload: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The words pushed with it, if any."""
        return pushed_text(self.payload) or ""

    def match(self, found: Found, words: tuple[str, ...]) -> Match:
        """It as found; `words` are lit."""
        text, title = self.text, self.payload.get("item_title")
        return Match(
            id=found.chunk_id,
            chunk_id=found.chunk_id,
            score=found.score,
            similarity=found.similarity,
            text=text,
            item_id=int(self.payload["item_id"]),
            item_title=title if isinstance(title, str) else "",
            dataset_id=0,
            file_id=_whole(self.payload.get("file_id")),
            page=_whole(self.payload.get("page")),
            heading_path=[],
            start_char=0,
            end_char=len(text),
            metadata={key: value for key, value in self.payload.items() if key not in _TOLD_ELSEWHERE},
            highlights=[Highlight(*span) for span in lit_spans(text, words)],
        )


Passage = StoredPassage | PushedPassage


def pushed_text(payload: Mapping[str, Any]) -> str | None:
    """The words pushed with a vector; None where there are none."""
    text = payload.get("text")
    return text if isinstance(text, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
