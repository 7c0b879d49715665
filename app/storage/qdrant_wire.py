"""Between our words and qdrant-client's: how to connect, filters, search parameters, failures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from app.errors import (
    DimensionMismatchError,
    ExplorerError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from app.storage.filters import AllOf, AnyOf, DateRange, Equal, Filters, Not, NumberRange, OneOf

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_REST_PORT, _GRPC_PORT = 6333, 6334
_NOT_FOUND, _CONFLICT, _TOO_MANY = 404, 409, 429
_REFUSED_LOGIN = frozenset({401, 403})
_SERVER_FAILED = 500


def connection_arguments(url: str) -> dict[str, Any]:
    """Return QdrantClient's arguments for a URL: port 6334 means gRPC, every other one REST."""
    parts = urlsplit(url)
    grpc = parts.port == _GRPC_PORT
    return {
        "host": parts.hostname,
        "port": _REST_PORT if grpc else parts.port or (443 if parts.scheme == "https" else 80),
        "grpc_port": _GRPC_PORT,
        "prefer_grpc": grpc,
        "https": parts.scheme == "https",
        "prefix": parts.path.strip("/") or None,
    }


def connect(url: str, *, api_key: str | None, timeout_seconds: int, pool_size: int) -> QdrantClient:
    """Return a client; it connects with its first call."""
    from qdrant_client import QdrantClient

    arguments = connection_arguments(url)
    if arguments["prefer_grpc"]:
        _share_grpc_with_greenlets()
    return QdrantClient(
        **arguments,
        api_key=api_key,
        timeout=timeout_seconds,
        pool_size=pool_size,
        check_compatibility=False,  # it asks the server at once, and warns where we would raise
    )


def _share_grpc_with_greenlets() -> None:
    """Let gRPC's waiting yield to other greenlets where the process runs on gevent."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        from grpc.experimental import gevent as grpc_gevent

        grpc_gevent.init_gevent()


def condition(filters: Filters | None) -> models.Filter | None:
    """Return Qdrant's filter for a tree of ours."""
    return None if filters is None else all_of(filters)


def all_of(*filters: Filters) -> models.Filter:
    """Return Qdrant's filter for trees of ours that must all hold."""
    from qdrant_client import models

    return models.Filter(must=[_condition(each) for each in filters])


def _condition(filters: Filters) -> models.Condition:
    from qdrant_client import models

    match filters:
        case AllOf(parts):
            return models.Filter(must=[_condition(part) for part in parts])
        case OneOf(parts):
            return models.Filter(should=[_condition(part) for part in parts])
        case Not(part):
            return models.Filter(must_not=[_condition(part)])
    return _field(filters)


def _field(leaf: Equal | AnyOf | NumberRange | DateRange) -> models.FieldCondition:
    from qdrant_client import models

    match leaf:
        case Equal(key, float(value)):  # Qdrant matches text, integers and booleans only
            return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
        case Equal(key, value):
            return models.FieldCondition(key=key, match=models.MatchValue(value=value))
        case AnyOf(key, values):
            return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
        case NumberRange(key, gte, gt, lte, lt):
            return models.FieldCondition(key=key, range=models.Range(gte=gte, gt=gt, lte=lte, lt=lt))
        case DateRange(key, since, after, until, before):
            moments = models.DatetimeRange(gte=since, gt=after, lte=until, lt=before)
            return models.FieldCondition(key=key, range=moments)


def one_of_ids(ids: Iterable[UUID]) -> list[models.Condition]:
    """Return Qdrant's condition that a point is one of these."""
    from qdrant_client import models

    return [models.HasIdCondition(has_id=[str(each) for each in ids])]


def payload_changes(payloads: Mapping[UUID, Mapping[str, Any]]) -> list[models.UpdateOperation]:
    """Return the operations that give each of the points its new payload."""
    from qdrant_client import models

    return [
        models.OverwritePayloadOperation(
            overwrite_payload=models.SetPayload(payload=dict(payload), points=[str(point)])
        )
        for point, payload in payloads.items()
    ]


def search_params(*, exact: bool, hnsw_ef: int | None) -> models.SearchParams | None:
    """Return search parameters, None where the index's own shall hold."""
    from qdrant_client import models

    if not exact and hnsw_ef is None:
        return None
    return models.SearchParams(exact=exact, hnsw_ef=hnsw_ef)


@contextmanager
def already_there_is_fine() -> Iterator[None]:
    """Pass over the conflict of two workers that create the same thing."""
    try:
        yield
    except Exception as error:
        if _status(error) != _CONFLICT:
            raise


@contextmanager
def failures(url: str, name: str) -> Iterator[None]:
    """Turn what qdrant-client raises, over REST or gRPC, into our errors; `name` is the index at hand."""
    try:
        yield
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        raise _translated(f"Qdrant at {url}", name, status, error) from error


def _translated(server: str, name: str, status: int, error: Exception) -> ExplorerError:
    detail = _detail(error)
    if status == _NOT_FOUND:
        return NotFoundError(f"There is no vector index {name} ({detail})")
    if status in _REFUSED_LOGIN:
        return UnavailableError(f"{server} refuses our key: check QDRANT_API_KEY")
    if status == _TOO_MANY:
        wait = getattr(error, "retry_after_s", None)
        return UnavailableError(f"{server} is overloaded: {detail}", retry_after_seconds=wait)
    if status >= _SERVER_FAILED:
        return UnavailableError(f"{server} does not answer: {detail}")
    if "dimension" in detail.lower():
        return DimensionMismatchError(f"Vectors do not fit vector index {name}: {detail}")
    return InvalidInputError(f"{server} refuses the request for vector index {name}: {detail}")


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error stands for; None where it is not Qdrant's."""
    import grpc
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    match error:
        case UnexpectedResponse():
            return error.status_code or _SERVER_FAILED
        case ResponseHandlingException():
            return 503
        case ResourceExhaustedResponse():
            return _TOO_MANY
        case grpc.RpcError():
            return _GRPC_STATUS.get(_grpc_code(error), _SERVER_FAILED)
    return None


_GRPC_STATUS = {
    "NOT_FOUND": _NOT_FOUND,
    "ALREADY_EXISTS": _CONFLICT,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": _TOO_MANY,
}


def _grpc_code(error: Any) -> str:
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else ""


def _detail(error: Any) -> str:
    """Return the server's own words, shortened."""
    details = getattr(error, "details", None)
    content = getattr(error, "content", None)
    if callable(details):
        words = str(details())
    elif isinstance(content, bytes):
        words = content.decode(errors="replace")
    else:
        words = str(error) or type(error).__name__
    return words[:300]
