"""Server-sent events of one run of a transform: how far it is, read from its rows when something happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

from flask import Response

from app.api import sse
from app.api.context import me, services
from app.api.schemas.transform_runs import TransformRunReply
from app.errors import NotFoundError, UnavailableError
from app.events.types import Connected, Told
from app.services.transform_runs import TransformRun, TransformType

_PAUSE_SECONDS = 1.0  # between two looks at the rows, however much happens
_QUIET_SECONDS = 15.0  # then it is looked at all the same: an event may have been lost


def follow_run(kind: TransformType, transform_id: int, run_id: UUID) -> Response:
    """Stream how far a run is until it has ended; raises NotFoundError."""
    read = partial(services().transform_runs.get, me(), kind, transform_id, run_id)
    read()
    return sse.stream(
        lambda event: event.transform_type == kind and event.transform_id == transform_id,
        partial(_lines, read=read),
    )


def _lines(told: Iterator[Told | None], *, read: Callable[[], TransformRun]) -> Iterator[str]:
    looked, is_stale = float("-inf"), True
    for one in told:
        if isinstance(one, Connected):
            yield sse.event("connected", {"resumed_after": None})
        is_stale = is_stale or one is not None or time.monotonic() - looked > _QUIET_SECONDS
        if not is_stale or time.monotonic() - looked < _PAUSE_SECONDS:
            continue
        looked = time.monotonic()
        try:
            run = read()
        except UnavailableError:
            continue  # and looked at again
        except NotFoundError:
            yield sse.event("closed", {"reason": "the run is gone"})
            return
        is_stale = False
        yield sse.event("progress", TransformRunReply(run).model_dump(mode="json"))
        if run.finished_at is not None:
            yield sse.event("closed", {"reason": "the run has ended"})
            return
