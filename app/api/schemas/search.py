"""Search on the wire."""

from __future__ import annotations

from pydantic import Field, RootModel

from app.api.schemas.base import Body, JsonObject
from app.services.search import Mode, SearchResult


class SearchParamsBody(Body):
    """How thorough the index looks."""

    exact: bool = False
    hnsw_ef: int | None = Field(None, ge=1, le=10_000)


class SearchBody(Body):
    """A query in words, and where to look.

    `filters` narrows: `{"language": "en", "page": {"gte": 3}, "file_id": [7, 9], "created_at": {"gte":
    "2026-01-31"}}`; fields are item_id, file_id, page, media_type, language, created_at.
    """

    query: str
    embedded_dataset_ids: list[int]
    limit: int = 10
    score_threshold: float = 0.0
    filters: JsonObject = Field(default_factory=dict)
    search_params: SearchParamsBody = SearchParamsBody()
    search_mode: Mode = "chunks"


class SearchReply(RootModel[SearchResult]):
    """One block per embedded dataset."""
