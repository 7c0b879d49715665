"""SQLAlchemy's pool, which also says how full it is and how long one waits for a connection.

A connection costs Postgres a process and several milliseconds. So one that comes back stays open for whoever
wants it next, and what a rush has opened is closed when it was not wanted for a while.
"""

from __future__ import annotations

import time

from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Queue

from app.observability import server_metrics

_BACK_SINCE = "back_since"


class MeasuredPool(QueuePool):
    """QueuePool with gauges: the two steps that every pool is made of tell what they did.

    To be used last in, first out: what lies at the other end was not wanted for the longest time.
    """

    _least, _idle_seconds = 0, float("inf")

    def keep(self, least: int, idle_seconds: float) -> None:
        """Close what was idle for longer, whenever a connection comes back, down to the least."""
        self._least, self._idle_seconds = least, idle_seconds

    def recreate(self) -> MeasuredPool:
        """An empty one of the same kind."""
        fresh = super().recreate()
        assert isinstance(fresh, MeasuredPool)
        fresh.keep(self._least, self._idle_seconds)
        return fresh

    def _do_get(self) -> ConnectionPoolEntry:
        started = time.monotonic()
        try:
            record = super()._do_get()
        except BaseException:
            server_metrics.pool_waited(time.monotonic() - started, failed=True)
            raise
        finally:
            self._tell()
        server_metrics.pool_waited(time.monotonic() - started)
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        record.info[_BACK_SINCE] = time.monotonic()
        super()._do_return_conn(record)
        while (unwanted := self._unwanted()) is not None:
            try:
                unwanted.close()
            finally:
                self._dec_overflow()
        self._tell()

    def _unwanted(self) -> ConnectionPoolEntry | None:
        """The connection that has been idle for the longest time, taken out, if that was too long."""
        pool: Queue[ConnectionPoolEntry] = self._pool  # type: ignore[assignment]  # not asyncio's
        with pool.mutex:
            idle = pool.queue
            if not idle or self.checkedin() + self.checkedout() <= self._least:
                return None
            if time.monotonic() - idle[0].info[_BACK_SINCE] <= self._idle_seconds:
                return None
            return idle.popleft()

    def _tell(self) -> None:
        in_use = self.checkedout()
        server_metrics.set_pool(size=in_use + self.checkedin(), in_use=in_use)


def take_idle_seconds(record: ConnectionPoolEntry) -> float:
    """How long a connection that is asked for lay in the pool; 0 for a new one, and when asked again."""
    now = time.monotonic()
    return now - float(record.info.pop(_BACK_SINCE, now))
