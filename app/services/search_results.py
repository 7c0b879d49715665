"""What a search answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

Mode = Literal["chunks", "documents"]


@dataclass(frozen=True, slots=True)
class Highlight:
    """Where a word of the query stands: `text[start:end]`, in characters of the match's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Match:
    """A passage that was found.

    `score` is what it is ordered by: the cosine (1 says the same), the fused rank of a hybrid search, or the
    relevance that a reranker gave. `similarity` is the cosine always, None where only its words matched.
    What was pushed into a standalone embedded dataset has `dataset_id` 0.
    """

    id: UUID
    chunk_id: UUID
    score: float
    similarity: float | None
    text: str
    item_id: int
    item_title: str
    dataset_id: int
    file_id: int | None
    page: int | None
    heading_path: list[str]
    start_char: int
    end_char: int
    metadata: dict[str, Any]
    highlights: list[Highlight]


@dataclass(frozen=True, slots=True)
class DocumentMatch:
    """A document by its best passages; `chunk_count` is how many of them matched, at most 10."""

    item_id: int
    item_title: str
    file_id: int | None
    best_score: float
    chunk_count: int
    best_chunk: Match
    chunks: list[Match]


@dataclass(frozen=True, slots=True)
class Block:
    """What one embedded dataset answered; with `error` set it could not.

    Of a standalone one, `source_dataset_id` is 0 and its title null, and so the embedder where none is known.
    """

    embedded_dataset_id: int
    embedded_dataset_title: str
    source_dataset_id: int
    source_dataset_title: str | None
    embedder_id: int
    embedder_name: str | None
    collection_name: str
    matches: list[Match]
    documents: list[DocumentMatch] | None
    error: str | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One block per embedded dataset, in the order asked for."""

    results: list[Block]
    query: str
    search_mode: Mode


def document(chunks: list[Match]) -> DocumentMatch:
    """The document of these passages, which are of one item and in order."""
    best = max(chunks, key=lambda match: match.score)
    return DocumentMatch(
        item_id=best.item_id,
        item_title=best.item_title,
        file_id=best.file_id,
        best_score=best.score,
        chunk_count=len(chunks),
        best_chunk=best,
        chunks=chunks,
    )
