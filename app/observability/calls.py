"""One call to a server behind us: a client span and a time, under names that do not grow in number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import Histogram

from app.observability import tracing
from app.observability.metrics import STORAGE_DURATION
from app.observability.server_metrics import PROVIDER_DURATION, VECTOR_DURATION

System = Literal["s3", "qdrant", "provider"]

_TIMES: dict[System, Histogram] = {
    "s3": STORAGE_DURATION, "qdrant": VECTOR_DURATION, "provider": PROVIDER_DURATION
}  # fmt: skip
_NAMED: dict[System, str] = {"s3": "rpc.method", "qdrant": "db.operation.name", "provider": "peer.service"}


class Call:
    """What came of a call; "success" unless told otherwise, "failed" after an exception."""

    def __init__(self) -> None:
        self.status = "success"


@contextmanager
def call(system: System, name: str, **attributes: str | int) -> Iterator[Call]:
    """Time the block and put a span around it; `name` is an operation, or whose model it is."""
    made, started = Call(), time.perf_counter()
    try:
        told = {"peer.system": system, _NAMED[system]: name, **attributes}
        with tracing.span(f"{system} {name}", "client", attributes=told):
            yield made
    except BaseException:
        made.status = "failed"
        raise
    finally:
        _TIMES[system].labels(name, made.status).observe(time.perf_counter() - started)
