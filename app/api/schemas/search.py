"""Search on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, RootModel, WithJsonSchema

from app.api.schemas.base import Body, JsonObject
from app.services.search import MOST_DATASETS, MOST_RESULTS, QUERY_LENGTH, Mode, SearchResult

# Documented here, checked by the service, whose words the answer has.
_IDS = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": MOST_DATASETS}


class SearchParamsBody(Body):
    """How thorough the index looks."""

    exact: bool = False
    hnsw_ef: int | None = Field(None, ge=1, le=10_000)


class SearchBody(Body):
    """A query in words, and where to look.

    `filters` narrows: `{"language": "en", "page": {"gte": 3}, "file_id": [7, 9], "created_at": {"gte":
    "2026-01-31"}}`; fields are item_id, file_id, page, media_type, language, created_at.
    """

    query: Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": QUERY_LENGTH})]
    embedded_dataset_ids: Annotated[list[int], WithJsonSchema(_IDS)]
    limit: Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_RESULTS})] = 10
    score_threshold: Annotated[float, WithJsonSchema({"type": "number", "minimum": -1, "maximum": 1})] = 0.0
    filters: JsonObject = Field(default_factory=dict)
    search_params: SearchParamsBody = SearchParamsBody()
    search_mode: Mode = "chunks"


class SearchReply(RootModel[SearchResult]):
    """One block per embedded dataset."""
