"""Search by meaning: one query, one or several embedded datasets side by side."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from app.errors import ExplorerError, InvalidInputError, NotFoundError
from app.pipeline.embedding.base import Embedder
from app.security.principal import Principal
from app.services.search_filters import parse_filters
from app.storage.filters import AllOf, Equal, Filters
from app.storage.postgres.queries.owned import owned
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, Dataset, EmbeddedDataset, EmbedderRow, Item
from app.storage.qdrant import Hit, VectorStore

Mode = Literal["chunks", "documents"]

QUERY_LENGTH, MOST_DATASETS, MOST_RESULTS = 8_000, 20, 100
_PASSAGES_PER_DOCUMENT = 10
_THREADS = 8


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How thorough the index looks: `exact` compares all vectors, `hnsw_ef` widens the approximate search."""

    exact: bool = False
    hnsw_ef: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched, where and how."""

    query: str
    embedded_dataset_ids: Sequence[int]
    limit: int = 10
    score_threshold: float = 0.0
    filters: Mapping[str, Any] = field(default_factory=dict)
    search_params: SearchParams = field(default_factory=SearchParams)
    search_mode: Mode = "chunks"


@dataclass(frozen=True, slots=True)
class Match:
    """A passage that was found; `score` is the cosine, 1 says the same."""

    id: UUID
    chunk_id: UUID
    score: float
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
    """What one embedded dataset answered; with `error` set it could not."""

    embedded_dataset_id: int
    embedded_dataset_title: str
    source_dataset_id: int
    source_dataset_title: str
    embedder_id: int
    embedder_name: str
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


@dataclass(frozen=True, slots=True)
class _Target:
    row: EmbeddedDataset
    dataset_title: str
    embedder_name: str


_Found = list[list[Hit]]  # hits by document; in chunk mode each hit is its own group
_Answer = _Found | ExplorerError


@dataclass(frozen=True, slots=True)
class Search:
    """Verbs on search. `embedder` opens the client of an owner's embedder."""

    database: Database
    vectors: VectorStore
    embedder: Callable[[str, int], Embedder]

    def search(self, principal: Principal, query: Query) -> SearchResult:
        """Search all the embedded datasets at once; one that fails says so in its block.

        Raises NotFoundError for an embedded dataset that is not the owner's, and InvalidInputError that
        names the field and the rule.
        """
        text = _checked_text(query)
        filters = _scoped(principal, parse_filters(query.filters))
        targets = self._targets(principal, query.embedded_dataset_ids)
        with ThreadPoolExecutor(max_workers=min(_THREADS, len(targets)), thread_name_prefix="search") as pool:
            embedded = {
                key: pool.submit(self._embed, principal.owner_id, key, text)
                for key in dict.fromkeys(target.row.embedder_id for target in targets)
            }
            vectors = {key: _outcome(future) for key, future in embedded.items()}
            pending = [
                pool.submit(self._find, target, vectors[target.row.embedder_id], query, filters)
                for target in targets
            ]
            answers = [_outcome(future) for future in pending]
        matches = self._matches(principal, answers)
        blocks = [
            _block(target, answer, matches, query.search_mode)
            for target, answer in zip(targets, answers, strict=True)
        ]
        return SearchResult(blocks, text, query.search_mode)

    def _targets(self, principal: Principal, ids: Sequence[int]) -> list[_Target]:
        with self.database.transaction() as session:
            for key in ids:
                owned(session, EmbeddedDataset, key, principal.owner_id, field="embedded_dataset_ids")
            rows = session.execute(
                select(EmbeddedDataset, Dataset.title, EmbedderRow.name)
                .join(Dataset, Dataset.dataset_id == EmbeddedDataset.source_dataset_id)
                .join(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
                .where(EmbeddedDataset.embedded_dataset_id.in_(ids))
            )
            by_id = {row.EmbeddedDataset.embedded_dataset_id: _Target(*row) for row in rows}
        return [by_id[key] for key in dict.fromkeys(ids)]

    def _embed(self, owner_id: str, embedder_id: int, text: str) -> NDArray[np.float32]:
        client = self.embedder(owner_id, embedder_id)
        vector: NDArray[np.float32] = client.embed([text], purpose="query").vectors[0]
        return vector

    def _find(
        self,
        target: _Target,
        vector: NDArray[np.float32] | ExplorerError,
        query: Query,
        filters: Filters,
    ) -> _Found:
        if isinstance(vector, ExplorerError):
            raise vector
        how: dict[str, Any] = {
            "limit": query.limit,
            "score_threshold": query.score_threshold,
            "filters": filters,
            "exact": query.search_params.exact,
            "hnsw_ef": query.search_params.hnsw_ef,
        }
        index = target.row.collection_name
        try:
            if query.search_mode == "chunks":
                return [[hit] for hit in self.vectors.search(index, vector, **how)]
            groups = self.vectors.search_groups(index, vector, group_size=_PASSAGES_PER_DOCUMENT, **how)
            return [list(group.hits) for group in groups]
        except NotFoundError:
            return []  # the index is made with its first vectors: nothing is embedded yet

    def _matches(self, principal: Principal, answers: Sequence[_Answer]) -> dict[UUID, _Passage]:
        """The found passages as Postgres has them now: what was deleted or edited meanwhile is left out."""
        ids = {
            hit.id
            for answer in answers
            if not isinstance(answer, ExplorerError)
            for group in answer
            for hit in group
        }
        if not ids:
            return {}
        statement = (
            select(ChunkRow, Item)
            .join(Item, Item.item_id == ChunkRow.item_id)
            .where(ChunkRow.chunk_id.in_(ids), Item.owner_id == principal.owner_id)
        )
        with self.database.transaction() as session:
            return {row.ChunkRow.chunk_id: _Passage(*row) for row in session.execute(statement)}


@dataclass(frozen=True, slots=True)
class _Passage:
    chunk: ChunkRow
    item: Item

    def match(self, score: float) -> Match:
        return Match(
            id=self.chunk.chunk_id,
            chunk_id=self.chunk.chunk_id,
            score=score,
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
        )


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except ExplorerError as error:
        return error


def _checked_text(query: Query) -> str:
    text = query.query.strip()
    if not text:
        raise InvalidInputError("query must not be empty", field="query")
    if len(text) > QUERY_LENGTH:
        raise InvalidInputError(f"query must have at most {QUERY_LENGTH} characters", field="query")
    if any(unicodedata.category(char) == "Cs" for char in text):
        raise InvalidInputError("query must be text", field="query")
    if not 1 <= len(query.embedded_dataset_ids) <= MOST_DATASETS:
        raise InvalidInputError(
            f"embedded_dataset_ids must name 1 to {MOST_DATASETS} embedded datasets",
            field="embedded_dataset_ids",
        )
    if not 1 <= query.limit <= MOST_RESULTS:
        raise InvalidInputError(f"limit must lie between 1 and {MOST_RESULTS}", field="limit")
    if not -1.0 <= query.score_threshold <= 1.0:
        raise InvalidInputError("score_threshold must lie between -1 and 1", field="score_threshold")
    return text


def _scoped(principal: Principal, filters: Sequence[Filters]) -> Filters:
    return AllOf((Equal("owner_id", principal.owner_id), *filters))


def _block(target: _Target, answer: _Answer, passages: Mapping[UUID, _Passage], mode: Mode) -> Block:
    failure = answer if isinstance(answer, ExplorerError) else None
    groups: list[list[Match]] = []
    if not isinstance(answer, ExplorerError):
        kept = [
            [passages[hit.id].match(hit.score) for hit in group if hit.id in passages] for group in answer
        ]
        groups = [group for group in kept if group]
    return Block(
        embedded_dataset_id=target.row.embedded_dataset_id,
        embedded_dataset_title=target.row.title,
        source_dataset_id=target.row.source_dataset_id,
        source_dataset_title=target.dataset_title,
        embedder_id=target.row.embedder_id,
        embedder_name=target.embedder_name,
        collection_name=target.row.collection_name,
        matches=[match for group in groups for match in group],
        documents=[_document(group) for group in groups] if mode == "documents" else None,
        error=failure.message if failure else None,
        error_code=failure.code if failure else None,
    )


def _document(chunks: list[Match]) -> DocumentMatch:
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
