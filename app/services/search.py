"""Search by meaning: one query, one or several embedded datasets side by side."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import select

from app.errors import ExplorerError, InvalidInputError, NotFoundError
from app.pipeline.embedding.base import Embedder
from app.pipeline.reranking import Reranker
from app.security.principal import Principal
from app.services.query_vectors import QueryVectors, Vector
from app.services.search_filters import parse_filters
from app.services.search_passages import Passage, PushedPassage, StoredPassage
from app.services.search_ranking import Found, by_nearness, fused, reranked
from app.services.search_results import Block, Match, Mode, SearchResult, document
from app.services.standalone import MOST_DIMENSIONS
from app.services.words import query_words, sought_words
from app.storage.filters import AllOf, Equal, Filters
from app.storage.postgres.queries.owned import missing
from app.storage.postgres.queries.text_search import passages_with_words
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow, Dataset, EmbeddedDataset, EmbedderRow, Item
from app.storage.qdrant import VectorStore

QUERY_LENGTH, MOST_DATASETS, MOST_RESULTS = 8_000, 20, 100
MOST_CANDIDATES = 200
_PASSAGES_PER_DOCUMENT = 10
_THREADS = 8
_CANDIDATES_PER_RESULT = 5
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How thorough the index looks: `exact` compares all vectors, `hnsw_ef` widens the approximate search."""

    exact: bool = False
    hnsw_ef: int | None = None


@dataclass(frozen=True, slots=True)
class Rerank:
    """Has the best `candidates` ordered at an LLM's address, with its key; `model` is else the LLM's."""

    llm_id: int
    model: str | None = None
    candidates: int = 50


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched, where and how.

    `hybrid` also looks for the words, and fuses both orders; the threshold then bounds what is near, and
    not what has the words. With a `vector` no embedder is asked; `query` may then be empty.
    """

    query: str
    embedded_dataset_ids: Sequence[int]
    limit: int = 10
    score_threshold: float = 0.0
    filters: Mapping[str, Any] = field(default_factory=dict)
    search_params: SearchParams = field(default_factory=SearchParams)
    search_mode: Mode = "chunks"
    hybrid: bool = False
    rerank: Rerank | None = None
    vector: Sequence[float] | None = None

    @property
    def candidates(self) -> int | None:
        """How many passages are ordered anew; None where the index's own order is the answer."""
        if not self.hybrid and self.rerank is None:
            return None
        asked = self.rerank.candidates if self.rerank else 0
        return min(MOST_CANDIDATES, max(asked, self.limit * _CANDIDATES_PER_RESULT))


@dataclass(frozen=True, slots=True)
class _Target:
    row: EmbeddedDataset
    dataset_title: str | None
    embedder_name: str | None


_Rank = Callable[[Sequence[str]], Sequence[tuple[int, float]]]
_Groups = list[list[Found]]  # by document; in chunk mode each passage is its own group
_Answer = _Groups | ExplorerError


@dataclass(frozen=True, slots=True)
class Search:
    """Verbs on search. `embedder` opens the client of an owner's embedder, `reranker` that of an LLM's."""

    database: Database
    vectors: VectorStore
    embedder: Callable[[str, int], Embedder]
    reranker: Callable[[str, int, str | None], Reranker]
    _known: QueryVectors = field(default_factory=QueryVectors)

    def search(self, principal: Principal, query: Query) -> SearchResult:
        """Search all the embedded datasets at once; one that fails says so in its block.

        Raises NotFoundError for an embedded dataset or reranker that is not the owner's, and
        InvalidInputError that names the field and the rule.
        """
        targets, answers, passages = self._run(principal, query)
        blocks = [
            _block(target, answer, passages, query) for target, answer in zip(targets, answers, strict=True)
        ]
        return SearchResult(blocks, query.query.strip(), query.search_mode)

    def passages(self, principal: Principal, query: Query) -> list[Match]:
        """The matches of the one embedded dataset that is asked; raises also what its block would say."""
        _, (answer,), passages = self._run(principal, query)
        if isinstance(answer, ExplorerError):
            raise answer
        return [match for group in _grouped(answer, passages, query) for match in group]

    def _run(
        self, principal: Principal, query: Query
    ) -> tuple[list[_Target], list[_Answer], dict[UUID, StoredPassage]]:
        text = _checked_text(query)
        filters = _scoped(principal, parse_filters(query.filters))
        targets = self._targets(principal, query.embedded_dataset_ids)
        rank = self._rank(principal, query, text)
        with ThreadPoolExecutor(max_workers=min(_THREADS, len(targets)), thread_name_prefix="search") as pool:
            embedded = {
                key: pool.submit(self._vector, principal.owner_id, key, query, text)
                for key in dict.fromkeys(target.row.embedder_id for target in targets)
            }
            vectors = {key: _outcome(future) for key, future in embedded.items()}
            found: list[Future[_Groups]] = [
                pool.submit(self._find, target, vectors[target.row.embedder_id], query, filters)
                for target in targets
            ]
            answers: list[_Answer] = [_outcome(future) for future in found]
            passages = self._passages(principal, answers)
            if rank is not None:
                ordered = [pool.submit(_reranked, answer, passages, rank) for answer in answers]
                answers = [_outcome(future) for future in ordered]
        return targets, answers, passages

    def _targets(self, principal: Principal, ids: Sequence[int]) -> list[_Target]:
        statement = (
            select(EmbeddedDataset, Dataset.title, EmbedderRow.name)
            .outerjoin(Dataset, Dataset.dataset_id == EmbeddedDataset.source_dataset_id)
            .outerjoin(EmbedderRow, EmbedderRow.embedder_id == EmbeddedDataset.embedder_id)
            .where(
                EmbeddedDataset.embedded_dataset_id.in_(ids), EmbeddedDataset.owner_id == principal.owner_id
            )
        )
        with self.database.transaction() as session:
            rows = session.execute(statement)
            by_id = {row.EmbeddedDataset.embedded_dataset_id: _Target(*row) for row in rows}
        wanted = dict.fromkeys(ids)
        for key in wanted:
            if key not in by_id:
                raise missing(EmbeddedDataset, key, field="embedded_dataset_ids")
        return [by_id[key] for key in wanted]

    def _rank(self, principal: Principal, query: Query, text: str) -> _Rank | None:
        if query.rerank is None:
            return None
        asked = query.rerank
        return partial(self.reranker(principal.owner_id, asked.llm_id, asked.model).rank, text)

    def _vector(self, owner_id: str, embedder_id: int | None, query: Query, text: str) -> Vector:
        if query.vector is not None:
            return np.asarray(query.vector, dtype=np.float32)
        if embedder_id is None:
            raise InvalidInputError(
                "nobody knows which embedder made these vectors: search them with a vector", field="vector"
            )
        return self._known.of(self.embedder(owner_id, embedder_id), text)

    def _find(
        self, target: _Target, vector: Vector | ExplorerError, query: Query, filters: Filters
    ) -> _Groups:
        if isinstance(vector, ExplorerError):
            raise vector
        if len(vector) != target.row.dimensions:
            raise InvalidInputError(
                f"vector must have {target.row.dimensions} numbers here, not {len(vector)}", field="vector"
            )
        try:
            near = self._near(target, vector, query, filters)
        except NotFoundError:
            near = []  # the index is made with its first vectors: nothing is embedded yet
        if not query.hybrid:
            return near
        words = sought_words(query.query)
        dataset_id, most = target.row.source_dataset_id, query.candidates or query.limit
        if dataset_id is None:
            raise InvalidInputError(
                "hybrid needs the passages of a dataset, and there is none", field="hybrid"
            )
        with self.database.transaction() as session:
            by_words = passages_with_words(session, dataset_id, words, filters, limit=most)
        return [[one] for one in fused([one for group in near for one in group], by_words)[:most]]

    def _near(self, target: _Target, vector: Vector, query: Query, filters: Filters) -> _Groups:
        how: dict[str, Any] = {
            "limit": query.candidates or query.limit,
            "score_threshold": query.score_threshold,
            "filters": filters,
            "exact": query.search_params.exact,
            "hnsw_ef": query.search_params.hnsw_ef,
        }
        index, pushed = target.row.collection_name, target.row.is_standalone
        if query.search_mode == "chunks" or query.candidates:
            return [[one] for one in by_nearness(self.vectors.search(index, vector, **how), pushed)]
        groups = self.vectors.search_groups(index, vector, group_size=_PASSAGES_PER_DOCUMENT, **how)
        return [by_nearness(group.hits, pushed) for group in groups]

    def _passages(self, principal: Principal, answers: Sequence[_Answer]) -> dict[UUID, StoredPassage]:
        """The found passages as Postgres has them now: what was deleted or edited meanwhile is left out."""
        ids = {
            one.chunk_id
            for answer in answers
            if not isinstance(answer, ExplorerError)
            for group in answer
            for one in group
            if one.pushed is None
        }
        if not ids:
            return {}
        statement = (
            select(ChunkRow, Item)
            .join(Item, Item.item_id == ChunkRow.item_id)
            .where(ChunkRow.chunk_id.in_(ids), Item.owner_id == principal.owner_id)
        )
        with self.database.transaction() as session:
            return {row.ChunkRow.chunk_id: StoredPassage(*row) for row in session.execute(statement)}


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except ExplorerError as error:
        return error


def _checked_text(query: Query) -> str:
    text = query.query.strip()
    if not text and (query.vector is None or query.hybrid or query.rerank):
        raise InvalidInputError("query must not be empty", field="query")
    if len(text) > QUERY_LENGTH:
        raise InvalidInputError(f"query must have at most {QUERY_LENGTH} characters", field="query")
    if any(unicodedata.category(char) == "Cs" for char in text):
        raise InvalidInputError("query must be text", field="query")
    _check_vector(query.vector)
    if not 1 <= len(query.embedded_dataset_ids) <= MOST_DATASETS:
        raise InvalidInputError(
            f"embedded_dataset_ids must name 1 to {MOST_DATASETS} embedded datasets",
            field="embedded_dataset_ids",
        )
    if not 1 <= query.limit <= MOST_RESULTS:
        raise InvalidInputError(f"limit must lie between 1 and {MOST_RESULTS}", field="limit")
    if query.rerank is not None and not 1 <= query.rerank.candidates <= MOST_CANDIDATES:
        raise InvalidInputError(
            f"rerank.candidates must lie between 1 and {MOST_CANDIDATES}", field="rerank.candidates"
        )
    if not -1.0 <= query.score_threshold <= 1.0:
        raise InvalidInputError("score_threshold must lie between -1 and 1", field="score_threshold")
    return text


def _check_vector(vector: Sequence[float] | None) -> None:
    if vector is None:
        return
    if not 1 <= len(vector) <= MOST_DIMENSIONS:
        raise InvalidInputError(f"vector must have 1 to {MOST_DIMENSIONS} numbers", field="vector")
    if not any(vector) or not all(math.isfinite(number) and abs(number) < _LARGEST for number in vector):
        raise InvalidInputError(
            "vector must hold finite numbers of single precision, one of them not 0", field="vector"
        )


def _scoped(principal: Principal, filters: Sequence[Filters]) -> Filters:
    return AllOf((Equal("owner_id", principal.owner_id), *filters))


def _behind(one: Found, passages: Mapping[UUID, StoredPassage]) -> Passage | None:
    return passages.get(one.chunk_id) if one.pushed is None else PushedPassage(one.pushed)


def _reranked(answer: _Answer, passages: Mapping[UUID, StoredPassage], rank: _Rank) -> _Groups:
    if isinstance(answer, ExplorerError):
        raise answer
    found = [one for group in answer for one in group]
    texts = {one.chunk_id: passage.text for one in found if (passage := _behind(one, passages))}
    return [[one] for one in reranked(found, texts, rank)]


def _grouped(answer: _Groups, passages: Mapping[UUID, StoredPassage], query: Query) -> list[list[Match]]:
    words = query_words(query.query)
    kept = [
        [passage.match(one, words) for one in group if (passage := _behind(one, passages))]
        for group in answer
    ]
    groups = [group for group in kept if group]
    if query.candidates and query.search_mode == "documents":
        by_item: dict[int, list[Match]] = {}
        for (match,) in groups:
            by_item.setdefault(match.item_id, []).append(match)
        groups = [group[:_PASSAGES_PER_DOCUMENT] for group in by_item.values()]
    return groups[: query.limit]


def _block(target: _Target, answer: _Answer, passages: Mapping[UUID, StoredPassage], query: Query) -> Block:
    failure = answer if isinstance(answer, ExplorerError) else None
    groups = [] if isinstance(answer, ExplorerError) else _grouped(answer, passages, query)
    return Block(
        embedded_dataset_id=target.row.embedded_dataset_id,
        embedded_dataset_title=target.row.title,
        source_dataset_id=target.row.source_dataset_id or 0,
        source_dataset_title=target.dataset_title,
        embedder_id=target.row.embedder_id or 0,
        embedder_name=target.embedder_name,
        collection_name=target.row.collection_name,
        matches=[match for group in groups for match in group],
        documents=[document(group) for group in groups] if query.search_mode == "documents" else None,
        error=failure.message if failure else None,
        error_code=failure.code if failure else None,
    )
