"""SQLAlchemy's pool, which also says how full it is, how long one waits, and closes what nobody needs."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app.observability import server_metrics


class MeasuredPool(QueuePool):
    """QueuePool with gauges: the two steps that every pool is made of tell what they did.

    A crowd opens as many connections as the pool may have. They stay for the next one, as opening costs more
    than most requests; those that lay idle for `idle_seconds` are closed, but the `fewest`, whenever another
    one is given back. So the pool must hand out the one that came last (`use_lifo`).
    """

    def __init__(self, creator: Any, fewest: int = 1, idle_seconds: float = 300.0, **options: Any) -> None:
        super().__init__(creator, **options)
        self._fewest, self._idle_seconds = fewest, idle_seconds

    def recreate(self) -> QueuePool:
        """As QueuePool, with our settings too."""
        fresh = super().recreate()
        assert isinstance(fresh, MeasuredPool)
        fresh._fewest, fresh._idle_seconds = self._fewest, self._idle_seconds  # noqa: SLF001 - its own class
        return fresh

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            with server_metrics.pool_wait():
                return super()._do_get()
        finally:
            self._tell()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info["idle_since"] = time.monotonic()
        super()._do_return_conn(record)
        self._close_one_idle()
        self._tell()

    def _close_one_idle(self) -> None:
        waiting: Any = self._pool
        with waiting.mutex:
            queue = waiting.queue  # the one that was asked for last is at its end
            if len(queue) <= self._fewest or idle_seconds(queue[0]) <= self._idle_seconds:
                return
            record = queue.popleft()
        try:
            record.close()
        finally:
            self._dec_overflow()

    def _tell(self) -> None:
        in_use = self.checkedout()
        server_metrics.set_pool(size=in_use + self.checkedin(), in_use=in_use)


def idle_seconds(record: ConnectionPoolEntry) -> float:
    """How long the connection has been in the pool since somebody gave it back; 0 for a new one."""
    return time.monotonic() - float(record.info.get("idle_since", time.monotonic()))
