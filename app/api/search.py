"""/api/search."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.search import SearchBody, SearchReply
from app.observability.metrics import observe_search
from app.security.marks import budget, least_role
from app.security.principal import Role
from app.services.search import Query, Rerank, SearchParams

api = APIBlueprint(
    "search", __name__, url_prefix="/api", abp_tags=[Tag(name="Search")], abp_responses=PROBLEMS
)


@api.post("/search", responses={200: SearchReply})
@least_role(Role.VIEWER)
@budget("search")
def search(body: SearchBody) -> Response:
    """Search embedded datasets side by side; one that cannot answer says so in its block."""
    query = Query(
        query=body.query,
        vector=body.vector,
        embedded_dataset_ids=body.embedded_dataset_ids,
        limit=body.limit,
        score_threshold=body.score_threshold,
        filters=body.filters,
        search_params=SearchParams(exact=body.search_params.exact, hnsw_ef=body.search_params.hnsw_ef),
        search_mode=body.search_mode,
        hybrid=body.hybrid,
        rerank=Rerank(**body.rerank.model_dump()) if body.rerank else None,
    )
    with _timed():
        return reply(SearchReply(services().search.search(me(), query)))


@contextmanager
def _timed() -> Iterator[None]:
    started = time.perf_counter()
    status = "failed"
    try:
        yield
        status = "success"
    finally:
        observe_search(status, time.perf_counter() - started)
