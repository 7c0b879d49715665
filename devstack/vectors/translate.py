"""From qdrant-client's request models to the engine's own types, and from its answers to JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any

import qdrant_edge as edge
from qdrant_client.http import models

from devstack.vectors.errors import UnsupportedError, WrongInputError

_DISTANCES = {
    models.Distance.COSINE: edge.Distance.Cosine,
    models.Distance.DOT: edge.Distance.Dot,
    models.Distance.EUCLID: edge.Distance.Euclid,
    models.Distance.MANHATTAN: edge.Distance.Manhattan,
}
_INDEX_TYPES = {
    models.PayloadSchemaType.KEYWORD: edge.PayloadSchemaType.Keyword,
    models.PayloadSchemaType.INTEGER: edge.PayloadSchemaType.Integer,
    models.PayloadSchemaType.FLOAT: edge.PayloadSchemaType.Float,
    models.PayloadSchemaType.GEO: edge.PayloadSchemaType.Geo,
    models.PayloadSchemaType.TEXT: edge.PayloadSchemaType.Text,
    models.PayloadSchemaType.BOOL: edge.PayloadSchemaType.Bool,
    models.PayloadSchemaType.DATETIME: edge.PayloadSchemaType.Datetime,
    models.PayloadSchemaType.UUID: edge.PayloadSchemaType.Uuid,
}
# The engine's enum members are equal by value but not hashable: named by what they print.
_INDEX_NAMES = {repr(value): name.value for name, value in _INDEX_TYPES.items()}


def shard_config(params: models.VectorParams) -> Any:
    """Return the engine's configuration for one unnamed dense vector."""
    vector = edge.EdgeVectorParams(size=params.size, distance=_DISTANCES[params.distance])
    return edge.EdgeConfig(vectors=vector)


def vector_params(config: models.VectorsConfig | None) -> models.VectorParams:
    """Return the parameters of the one unnamed vector; others are refused."""
    if not isinstance(config, models.VectorParams):
        raise UnsupportedError("named or sparse vectors")
    return config


def index_type(schema: models.PayloadFieldSchema | None) -> Any:
    """Return the engine's index type; parameters of an index are dropped."""
    if schema is None:
        raise UnsupportedError("a payload index without field_schema")
    kind = schema if isinstance(schema, models.PayloadSchemaType) else schema.type
    return _INDEX_TYPES[models.PayloadSchemaType(str(getattr(kind, "value", kind)))]


def index_name(kind: Any) -> str:
    """Return Qdrant's word for the engine's index type."""
    return _INDEX_NAMES.get(repr(kind), "keyword")


def points(operation: models.PointsList | models.PointsBatch, size: int) -> list[Any]:
    """Return the engine's points, whichever of the two forms the client sent.

    Vectors of another length than `size` are refused here: the engine would log the whole batch first and
    keep the points before the wrong one.
    """
    if isinstance(operation, models.PointsList):
        return [
            edge.Point(id=p.id, vector=_dense(p.vector, size), payload=p.payload) for p in operation.points
        ]
    batch = operation.batch
    vectors = batch.vectors
    if not isinstance(vectors, list):
        raise UnsupportedError("named vectors")
    payloads: Sequence[Any] = batch.payloads or (None,) * len(batch.ids)
    if not len(batch.ids) == len(vectors) == len(payloads):
        raise WrongInputError("Wrong input: ids, vectors and payloads of the batch differ in number")
    rows = zip(batch.ids, vectors, payloads, strict=True)
    return [edge.Point(id=i, vector=_dense(vector, size), payload=payload) for i, vector, payload in rows]


def _dense(vector: Any, size: int) -> list[float]:
    if not isinstance(vector, list) or (vector and not isinstance(vector[0], int | float)):
        raise UnsupportedError("named, sparse or multi vectors")
    if len(vector) != size:
        raise WrongInputError(f"Wrong input: Vector dimension error: expected dim: {size}, got {len(vector)}")
    return vector


def conditions(filters: models.Filter | None) -> Any:
    """Return the engine's filter, None for none."""
    if filters is None:
        return None
    return edge.Filter(
        must=_clause(filters.must),
        should=_clause(filters.should),
        must_not=_clause(filters.must_not),
        min_should=_each(_least, filters.min_should),
    )


def _least(least: models.MinShould) -> Any:
    return edge.MinShould(_clause(least.conditions) or [], least.min_count)


def _each(translation: Callable[[Any], Any], given: Any) -> Any:
    return None if given is None else translation(given)


def _clause(clause: Any) -> list[Any] | None:
    if clause is None:
        return None
    return [_condition(each) for each in (clause if isinstance(clause, list) else [clause])]


def _condition(condition: models.Condition) -> Any:
    match condition:
        case models.FieldCondition():
            return _field(condition)
        case models.Filter():
            return conditions(condition)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(condition.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(condition.is_null.key)
        case models.NestedCondition():
            return edge.NestedCondition(condition.nested.key, conditions(condition.nested.filter))
    raise UnsupportedError(f"a filter by {type(condition).__name__}")


def _field(condition: models.FieldCondition) -> Any:
    if condition.geo_bounding_box or condition.geo_radius or condition.geo_polygon:
        raise UnsupportedError("a filter by place")
    return edge.FieldCondition(
        key=condition.key,
        match=_each(_match, condition.match),
        range=_each(_range, condition.range),
        values_count=_each(_count, condition.values_count),
        is_empty=condition.is_empty,
        is_null=condition.is_null,
    )


def _count(count: models.ValuesCount) -> Any:
    return edge.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte)


def _match(match: models.Match) -> Any:
    match match:
        case models.MatchValue():
            return edge.MatchValue(match.value)
        case models.MatchAny():
            return edge.MatchAny(match.any)
        case models.MatchExcept():
            return edge.MatchExcept(match.except_)
        case models.MatchText():
            return edge.MatchText(match.text)
    raise UnsupportedError(f"a filter by {type(match).__name__}")


def _range(bounds: models.RangeInterface) -> Any:
    if isinstance(bounds, models.Range):
        return edge.RangeFloat(gte=bounds.gte, gt=bounds.gt, lte=bounds.lte, lt=bounds.lt)
    ends = {name: getattr(bounds, name) for name in ("gte", "gt", "lte", "lt")}
    return edge.RangeDateTime(**{name: _each(_moment, end) for name, end in ends.items()})


def _moment(moment: datetime | date) -> str:
    return moment.isoformat()


def selection(wanted: Any, *, default: bool = False) -> Any:
    """Return the engine's choice of payload fields or vectors."""
    match wanted:
        case None:
            return default
        case models.PayloadSelectorInclude():
            return edge.PayloadSelector.Include(wanted.include)
        case models.PayloadSelectorExclude():
            return edge.PayloadSelector.Exclude(wanted.exclude)
    return wanted


def search_params(params: models.SearchParams | None) -> Any:
    """Return the engine's search parameters; quantization is not among them."""
    if params is None:
        return None
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef, exact=bool(params.exact), indexed_only=bool(params.indexed_only)
    )


def record(point: Any) -> dict[str, Any]:
    """Return a stored point as JSON value; `vector` only where it was asked for."""
    answer = {"id": _id(point.id), "payload": point.payload}
    vector = point.vector
    return answer if vector is None else answer | {"vector": vector}


def scored(hits: Iterable[Any]) -> list[dict[str, Any]]:
    """Return found points as JSON values, best first."""
    return [record(hit) | {"version": hit.version, "score": hit.score} for hit in hits]


def _id(point_id: Any) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)
