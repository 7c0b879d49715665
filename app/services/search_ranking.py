"""Orders of what was found: by nearness, by words, both fused, or as a reranker has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from app.services.search_results import Match
from app.storage.qdrant import Hit, Payload

_K = 60  # of the paper: how much the first places count more than those after them


@dataclass(frozen=True, slots=True)
class Found:
    """A passage with what it is ordered by; `similarity` is its cosine, None where only its words matched.

    `pushed` is the payload of a point that no passage in Postgres stands behind.
    """

    chunk_id: UUID
    score: float
    similarity: float | None
    pushed: Payload | None = None


def by_nearness(hits: Iterable[Hit], pushed: bool) -> list[Found]:  # noqa: FBT001 - of all alike
    """Hits of the vector index, as they came; with what was `pushed`, where nothing else is known of them."""
    return [Found(hit.id, hit.score, hit.score, hit.payload if pushed else None) for hit in hits]


def fused(near: Sequence[Found], by_words: Sequence[UUID]) -> list[Found]:
    """Both orders in one: each passage scores the sum of 1 / (60 + its place) over the orders it is in.

    Reciprocal rank fusion: G. V. Cormack, C. L. A. Clarke, S. Büttcher, "Reciprocal rank fusion outperforms
    Condorcet and individual rank learning methods", SIGIR 2009. It needs no scores that compare.
    """
    similarity = {one.chunk_id: one.similarity for one in near}
    scores: dict[UUID, float] = {}
    for order in ([one.chunk_id for one in near], by_words):
        for place, key in enumerate(order, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (_K + place)
    ranked = sorted(scores, key=lambda key: -scores[key])  # stable: of equals, what is nearer comes first
    return [Found(key, scores[key], similarity.get(key)) for key in ranked]


def merged(first: Sequence[Match], second: Sequence[Match]) -> list[Match]:
    """Two orders in one, fused by their places; a passage of both is the one of the first."""
    by_id = {match.chunk_id: match for match in (*second, *first)}
    near = [Found(match.chunk_id, match.score, match.similarity) for match in first]
    return [by_id[one.chunk_id] for one in fused(near, [match.chunk_id for match in second])]


def reranked(
    found: Sequence[Found],
    texts: Mapping[UUID, str],
    rank: Callable[[Sequence[str]], Sequence[tuple[int, float]]],
) -> list[Found]:
    """Those that have a text, as `rank` orders the texts: positions with their relevance, best first."""
    present = [one for one in found if one.chunk_id in texts]
    if not present:
        return []
    order = rank([texts[one.chunk_id] for one in present])
    return [replace(present[position], score=relevance) for position, relevance in order]
