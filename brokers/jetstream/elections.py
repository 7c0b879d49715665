"""Asking the JetStream API of a cluster that may be between two leaders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import nats.js.errors

log = logging.getLogger(__name__)

T = TypeVar("T")

_PATIENCE_SECONDS = 30.0  # an election takes a few seconds, on slow disks under load more than ten
_PAUSE_SECONDS = 0.2
# Nobody answered, or somebody who cannot know: not what a server says that is away for good.
LEADERLESS: tuple[type[BaseException], ...] = (
    asyncio.TimeoutError,
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.js.errors.ServiceUnavailableError,
)


async def answered(action: str, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a request that may be repeated; a cluster that elects drops what it is asked.

    Raises what the last try raised, 30 seconds after the first.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    level = logging.WARNING
    while True:
        try:
            return await ask()
        except LEADERLESS as error:
            if time.monotonic() >= deadline:
                raise
            hint = "it has no leader yet, or is not enabled; asking again"
            log.log(level, "%s: JetStream does not answer (%s): %s", action, type(error).__name__, hint)
            level = logging.DEBUG
            await asyncio.sleep(_PAUSE_SECONDS)
