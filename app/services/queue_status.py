"""What the message server holds, for those who run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dramatiq.errors import BrokerConnectionError

from app.errors import UnavailableError
from brokers import TopologyError


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Verbs on the message server; `report` asks it."""

    report: Callable[[], dict[str, Any]]

    def nats(self) -> dict[str, Any]:
        """Connection, streams, consumers and dead letters as JSON values; raises UnavailableError."""
        try:
            return self.report()
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
