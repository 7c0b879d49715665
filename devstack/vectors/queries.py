"""Searches: nearest to a vector or to a stored point, one or many at once, flat or grouped by a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as edge
from qdrant_client.http import models

from devstack.vectors import translate
from devstack.vectors.errors import MissingError, UnsupportedError
from devstack.vectors.store import Collection

_DEFAULT_LIMIT, _DEFAULT_GROUPS, _DEFAULT_GROUP_SIZE = 10, 10, 3

AnyRequest = models.QueryRequest | models.QueryGroupsRequest


def search(collection: Collection, request: models.QueryRequest) -> list[dict[str, Any]]:
    """Answer one search."""
    return search_batch(collection, [request])[0]


def search_batch(
    collection: Collection, requests: Sequence[models.QueryRequest]
) -> list[list[dict[str, Any]]]:
    """Answer several searches in one pass over the vectors."""
    queries = [_query(collection, each, limit=each.limit, offset=each.offset) for each in requests]
    answers = collection.shard.query_batch(edge.QueryBatchRequest(queries))
    return [translate.scored(hits) for hits in answers]


def search_groups(collection: Collection, request: models.QueryGroupsRequest) -> list[dict[str, Any]]:
    """Return the best groups, each with its best hits; the order of both is by score.

    A point whose field holds several values belongs to several groups.
    """
    if request.with_lookup is not None:
        raise UnsupportedError("with_lookup")
    keys = _best_groups(collection, request)
    size = request.group_size or _DEFAULT_GROUP_SIZE
    members = [_query(collection, request, limit=size, also=_in_group(request.group_by, key)) for key in keys]
    if not members:
        return []
    answers = collection.shard.query_batch(edge.QueryBatchRequest(members))
    return [{"id": key, "hits": translate.scored(hits)} for key, hits in zip(keys, answers, strict=True)]


def _best_groups(collection: Collection, request: models.QueryGroupsRequest) -> list[str | int]:
    wanted = request.limit or _DEFAULT_GROUPS
    depth = wanted * (request.group_size or _DEFAULT_GROUP_SIZE)
    while True:
        query = _query(collection, request, limit=depth, payload=[request.group_by])
        hits = collection.shard.query(query)
        keys: dict[str | int, None] = {}
        for hit in hits:
            keys |= dict.fromkeys(_group_keys(hit.payload, request.group_by))
        if len(keys) >= wanted or len(hits) < depth:
            return list(keys)[:wanted]
        depth *= 4


def _group_keys(payload: dict[str, Any] | None, field: str) -> list[str | int]:
    value: Any = payload
    for step in field.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str | int) and not isinstance(each, bool)]


def _in_group(field: str, key: str | int) -> Any:
    return edge.FieldCondition(key=field, match=edge.MatchValue(key))


def _query(
    collection: Collection,
    request: AnyRequest,
    *,
    limit: int | None,
    offset: int | None = None,
    also: Any = None,
    payload: list[str] | None = None,
) -> Any:
    if request.prefetch or request.lookup_from or request.using:
        raise UnsupportedError("prefetch, lookup_from or using")
    vector, itself = _target(collection, request.query)
    narrowed = [each for each in (translate.conditions(request.filter), also) if each is not None]
    without: list[Any] | None = [edge.HasIdCondition({itself})] if itself is not None else None
    return edge.QueryRequest(
        limit=_DEFAULT_LIMIT if limit is None else limit,
        offset=offset or 0,
        query=vector,
        filter=edge.Filter(must=narrowed or None, must_not=without) if narrowed or without else None,
        score_threshold=request.score_threshold,
        params=translate.search_params(request.params),
        with_payload=payload or translate.selection(request.with_payload),
        with_vector=False if payload else translate.selection(request.with_vector),
    )


def _target(collection: Collection, query: Any) -> tuple[Any, Any]:
    """Return the engine's query and, for "like this point", the point to leave out."""
    if isinstance(query, models.NearestQuery):
        if query.mmr is not None:
            raise UnsupportedError("mmr")
        query = query.nearest
    if isinstance(query, list) and query and isinstance(query[0], int | float):
        return edge.Query.Nearest(query), None
    if query is None:
        return None, None
    if isinstance(query, int | str) or type(query).__name__ == "UUID":
        found = collection.shard.retrieve([query], False, True)  # noqa: FBT003 - the engine names no arguments
        if not found:
            raise MissingError(f"Not found: No point with id {query} found")
        return edge.Query.Nearest(found[0].vector), query
    raise UnsupportedError(f"a query of type {type(query).__name__}")
