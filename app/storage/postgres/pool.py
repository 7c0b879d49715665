"""SQLAlchemy's pool, which also says how full it is and how long one waits for a connection."""

from __future__ import annotations

from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from app.observability import server_metrics


class MeasuredPool(QueuePool):
    """QueuePool with gauges: the two steps that every pool is made of tell what they did."""

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            with server_metrics.pool_wait():
                return super()._do_get()
        finally:
            self._tell()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        self._tell()

    def _tell(self) -> None:
        in_use = self.checkedout()
        server_metrics.set_pool(size=in_use + self.checkedin(), in_use=in_use)
