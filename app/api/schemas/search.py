"""Search on the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, RootModel, WithJsonSchema

from app.api.schemas.base import Body, JsonObject
from app.services.search import (
    MOST_CANDIDATES,
    MOST_DATASETS,
    MOST_RESULTS,
    QUERY_LENGTH,
)
from app.services.search_results import Mode, SearchResult
from app.services.standalone import MOST_DIMENSIONS

# Documented here, checked by the service, whose words the answer has.
_IDS = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": MOST_DATASETS}

_VECTOR = {
    "anyOf": [
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MOST_DIMENSIONS},
        {"type": "null"},
    ]
}


class SearchParamsBody(Body):
    """How thorough the index looks."""

    exact: bool = False
    hnsw_ef: int | None = Field(None, ge=1, le=10_000)


class RerankBody(Body):
    """Which reranker orders the best passages anew: one at the address and with the key of an LLM.

    It is called in Cohere's format at `{base_url}/rerank`; `model` is else that of the LLM.
    """

    llm_id: int
    model: str | None = Field(None, min_length=1, max_length=256)
    candidates: Annotated[
        int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_CANDIDATES})
    ] = 50


class SearchBody(Body):
    """A query in words, and where to look.

    `hybrid` also looks for the words themselves and fuses both orders.

    `filters` narrows: `{"language": "en", "page": {"gte": 3}, "file_id": [7, 9], "tags": ["draft", "final"],
    "created_at": {"gte": "2026-01-31"}}`: a value, any of several, or a range. Fields are item_id, file_id,
    page, media_type, language, created_at, and tags, which are what an item's metadata holds under `tags` or
    `keywords`.

    A `vector` stands for the query where one has it, and must where a standalone embedded dataset names no
    embedder; `query` may then be left out.
    """

    query: Annotated[str, WithJsonSchema({"type": "string", "maxLength": QUERY_LENGTH})] = ""
    vector: Annotated[list[float] | None, WithJsonSchema(_VECTOR)] = None
    embedded_dataset_ids: Annotated[list[int], WithJsonSchema(_IDS)]
    limit: Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_RESULTS})] = 10
    score_threshold: Annotated[float, WithJsonSchema({"type": "number", "minimum": -1, "maximum": 1})] = 0.0
    filters: JsonObject = Field(default_factory=dict)
    search_params: SearchParamsBody = SearchParamsBody()
    search_mode: Mode = "chunks"
    hybrid: bool = False
    rerank: RerankBody | None = None


class SearchReply(RootModel[SearchResult]):
    """One block per embedded dataset."""
