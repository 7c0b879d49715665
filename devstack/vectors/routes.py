"""The routes: Qdrant's paths and shapes, for the calls that the product makes through qdrant-client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pydantic
import pydantic_core
import qdrant_edge as edge
from pydantic import TypeAdapter
from qdrant_client.http import models
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devstack.vectors import queries, translate
from devstack.vectors.errors import MissingError, QdrantError, UnreadableBodyError, UnsupportedError
from devstack.vectors.store import Collection, Store

Body = TypeVar("Body")
Handler = Callable[[Request], Awaitable[Any]]

_UPSERT: TypeAdapter[models.PointsBatch | models.PointsList] = TypeAdapter(
    models.PointsBatch | models.PointsList
)
_SELECTOR: TypeAdapter[models.PointIdsList | models.FilterSelector] = TypeAdapter(
    models.PointIdsList | models.FilterSelector
)


async def _body(request: Request, shape: type[Body] | TypeAdapter[Body]) -> Body:
    adapter = shape if isinstance(shape, TypeAdapter) else TypeAdapter(shape)
    try:
        return adapter.validate_json(await request.body())
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise UnreadableBodyError(f"Format error in JSON body: {where}: {first['msg']}") from error


def _collection(request: Request) -> Collection:
    store: Store = request.app.state.store
    return store.get(request.path_params["name"])


def _done(operation_id: int) -> dict[str, Any]:
    return {"operation_id": operation_id, "status": "completed"}


async def list_collections(request: Request) -> Any:
    """GET /collections."""
    return {"collections": [{"name": name} for name in request.app.state.store.names()]}


async def get_collection(request: Request) -> Any:
    """GET /collections/{name}."""
    return _collection(request).info()


async def collection_exists(request: Request) -> Any:
    """GET /collections/{name}/exists."""
    return {"exists": request.app.state.store.exists(request.path_params["name"])}


async def create_collection(request: Request) -> Any:
    """PUT /collections/{name}."""
    body = await _body(request, models.CreateCollection)
    if body.sparse_vectors:
        raise UnsupportedError("sparse vectors")
    request.app.state.store.create(request.path_params["name"], translate.vector_params(body.vectors))
    return True


async def delete_collection(request: Request) -> Any:
    """DELETE /collections/{name}: false where there was none, as Qdrant answers."""
    return request.app.state.store.drop(request.path_params["name"])


async def create_index(request: Request) -> Any:
    """PUT /collections/{name}/index."""
    body = await _body(request, models.CreateFieldIndex)
    kind = translate.index_type(body.field_schema)
    return _done(_collection(request).update(edge.UpdateOperation.create_field_index(body.field_name, kind)))


async def delete_index(request: Request) -> Any:
    """DELETE /collections/{name}/index/{field}."""
    operation = edge.UpdateOperation.delete_field_index(request.path_params["field"])
    return _done(_collection(request).update(operation))


async def upsert(request: Request) -> Any:
    """PUT /collections/{name}/points."""
    collection = _collection(request)
    body = await _body(request, _UPSERT)
    if body.update_filter or body.update_mode:
        raise UnsupportedError("conditional upserts")
    points = translate.points(body, collection.params.size)
    return _done(collection.update(edge.UpdateOperation.upsert_points(points)))


async def retrieve(request: Request) -> Any:
    """POST /collections/{name}/points."""
    collection = _collection(request)
    body = await _body(request, models.PointRequest)
    payload = translate.selection(body.with_payload, default=True)
    found = collection.shard.retrieve(body.ids, payload, translate.selection(body.with_vector))
    return [translate.record(point) for point in found]


async def get_point(request: Request) -> Any:
    """GET /collections/{name}/points/{id}."""
    word: str = request.path_params["id"]
    found = _collection(request).shard.retrieve([int(word) if word.isdigit() else word], True, True)  # noqa: FBT003
    if not found:
        raise MissingError(f"Not found: Point with id {word} does not exists!")
    return translate.record(found[0])


async def delete_points(request: Request) -> Any:
    """POST /collections/{name}/points/delete, by ids or by filter."""
    collection = _collection(request)
    body = await _body(request, _SELECTOR)
    if isinstance(body, models.PointIdsList):
        return _done(collection.update(edge.UpdateOperation.delete_points(body.points)))
    condition = translate.conditions(body.filter)
    return _done(collection.update(edge.UpdateOperation.delete_points_by_filter(condition)))


async def set_payload(request: Request) -> Any:
    """POST (merge) and PUT (replace) /collections/{name}/points/payload."""
    collection = _collection(request)
    body = await _body(request, models.SetPayload)
    return _done(collection.update(_payload_operation(body, replace=request.method == "PUT")))


async def batch(request: Request) -> Any:
    """POST /collections/{name}/points/batch, of operations that replace payloads."""
    collection = _collection(request)
    body = await _body(request, models.UpdateOperations)
    changes = []
    for operation in body.operations:
        if not isinstance(operation, models.OverwritePayloadOperation):
            raise UnsupportedError(f"{type(operation).__name__} in a batch")
        changes.append(_payload_operation(operation.overwrite_payload, replace=True))
    return [_done(collection.update(change)) for change in changes]


def _payload_operation(body: models.SetPayload, *, replace: bool) -> Any:
    kind = "overwrite_payload" if replace else "set_payload"
    target = body.points if body.points is not None else translate.conditions(body.filter)
    if target is None:
        raise UnreadableBodyError("Format error in JSON body: either points or filter is needed")
    operation = getattr(edge.UpdateOperation, kind if body.points is not None else f"{kind}_by_filter")
    return operation(target, body.payload, body.key)


async def query(request: Request) -> Any:
    """POST /collections/{name}/points/query."""
    collection = _collection(request)
    return {"points": queries.search(collection, await _body(request, models.QueryRequest))}


async def query_batch(request: Request) -> Any:
    """POST /collections/{name}/points/query/batch."""
    collection = _collection(request)
    body = await _body(request, models.QueryRequestBatch)
    return [{"points": points} for points in queries.search_batch(collection, body.searches)]


async def query_groups(request: Request) -> Any:
    """POST /collections/{name}/points/query/groups."""
    collection = _collection(request)
    return {"groups": queries.search_groups(collection, await _body(request, models.QueryGroupsRequest))}


async def scroll(request: Request) -> Any:
    """POST /collections/{name}/points/scroll, in the order of ids."""
    collection = _collection(request)
    body = await _body(request, models.ScrollRequest)
    if body.order_by is not None:
        raise UnsupportedError("order_by")
    page = edge.ScrollRequest(
        offset=body.offset,
        limit=body.limit or 10,
        filter=translate.conditions(body.filter),
        with_payload=translate.selection(body.with_payload, default=True),
        with_vector=translate.selection(body.with_vector),
    )
    points, following = collection.shard.scroll(page)
    following = following if following is None or isinstance(following, int) else str(following)
    return {"points": [translate.record(point) for point in points], "next_page_offset": following}


async def count(request: Request) -> Any:
    """POST /collections/{name}/points/count; always exact."""
    collection = _collection(request)
    body = await _body(request, models.CountRequest)
    condition = translate.conditions(body.filter)
    return {"count": collection.shard.count(edge.CountRequest(exact=True, filter=condition))}


async def facet(request: Request) -> Any:
    """POST /collections/{name}/facet: how many points hold each value of an indexed field."""
    collection = _collection(request)
    body = await _body(request, models.FacetRequest)
    condition = translate.conditions(body.filter)
    wanted = edge.FacetRequest(key=body.key, limit=body.limit or 10, exact=True, filter=condition)
    hits = collection.shard.facet(wanted).hits
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in hits]}


def enveloped(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an answer, or a failure, in Qdrant's envelope."""

    async def handle(request: Request) -> Response:
        began = time.perf_counter()
        try:
            content, status = {"result": await handler(request), "status": "ok"}, 200
        except QdrantError as error:
            content, status = {"status": {"error": str(error)}}, error.http_status
        except OSError as error:  # a full disk is the server's trouble, so that the client tries again
            content, status = {"status": {"error": f"Service internal error: {error}"}}, 500
        except Exception as error:  # noqa: BLE001 - the engine raises nothing more precise
            content, status = {"status": {"error": f"Wrong input: {error}"}}, 400
        content["time"] = time.perf_counter() - began
        return Response(pydantic_core.to_json(content), status_code=status, media_type="application/json")

    return handle


_POINTS = "/collections/{name}/points"
_TABLE: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/collections", list_collections),
    ("GET", "/collections/{name}", get_collection),
    ("PUT", "/collections/{name}", create_collection),
    ("DELETE", "/collections/{name}", delete_collection),
    ("GET", "/collections/{name}/exists", collection_exists),
    ("PUT", "/collections/{name}/index", create_index),
    ("DELETE", "/collections/{name}/index/{field}", delete_index),
    ("POST", "/collections/{name}/facet", facet),
    ("PUT", _POINTS, upsert),
    ("POST", _POINTS, retrieve),
    ("POST", f"{_POINTS}/delete", delete_points),
    ("POST", f"{_POINTS}/payload", set_payload),
    ("PUT", f"{_POINTS}/payload", set_payload),
    ("POST", f"{_POINTS}/batch", batch),
    ("POST", f"{_POINTS}/query", query),
    ("POST", f"{_POINTS}/query/batch", query_batch),
    ("POST", f"{_POINTS}/query/groups", query_groups),
    ("POST", f"{_POINTS}/scroll", scroll),
    ("POST", f"{_POINTS}/count", count),
    ("GET", f"{_POINTS}/{{id}}", get_point),
)


def routes() -> list[Route]:
    """Return the routes of Qdrant's interface that this server answers."""
    return [Route(path, enveloped(handler), methods=[method]) for method, path, handler in _TABLE]
