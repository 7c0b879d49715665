"""How long to wait between two tries to connect."""

from __future__ import annotations

import random

from brokers.jetstream.options import BrokerOptions

_LARGEST_EXPONENT = 30  # far beyond any limit, far below an overflow


class Backoff:
    """Twice as long after each round of all servers, up to a limit, and each give or take half.

    What lost its server at the same moment would come back at the same moment otherwise.
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._first, self._most = options.reconnect_seconds, options.max_reconnect_seconds
        self._servers = len(options.server_urls)
        self._tries = 0

    def next(self) -> float:
        """Seconds before a server that did not let us in is tried again."""
        rounds = min(self._tries // self._servers, _LARGEST_EXPONENT)
        self._tries += 1
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 (spreads a fleet, keeps no secret)
        return min(self._most, self._first * 2.0**rounds) * jitter

    def reset(self) -> None:
        """Begin anew: one let us in."""
        self._tries = 0
