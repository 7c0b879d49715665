"""How many messages of a queue this process should hold: as many as it can start soon, no more.

Long jobs: one per thread, so that nothing lies here that an idle worker elsewhere could run. Short
jobs: enough ahead that no thread waits for the network. Which it is, is measured.
"""

from __future__ import annotations

from brokers.jetstream.message import Delivery
from brokers.jetstream.options import BrokerOptions

# What lies here longer than this, unstarted, is given back.
LONGEST_WAIT_SECONDS = 1.0
_AHEAD_SECONDS = 0.05  # work held ahead, per thread
_MOST_AHEAD = 64
_WEIGHT = 0.1  # of the newest run in the moving average


class Places:
    """The places for messages of one queue in one process. `threads` is the number of worker threads."""

    def __init__(self, options: BrokerOptions) -> None:
        self._fixed = options.prefetch
        self.threads = 1
        self.run_seconds = 0.0  # moving average; 0 until something ran

    @property
    def capacity(self) -> int:
        """Messages to hold at most, running ones included."""
        return self._fixed or self.threads + self._ahead()

    def _ahead(self) -> int:
        if self._fixed or not self.run_seconds:
            return 0
        return min(_MOST_AHEAD, int(self.threads * _AHEAD_SECONDS / self.run_seconds))

    def wanted(self, taken: int) -> int:
        """How many more to ask for when `taken` are held or on their way.

        Small requests cost the server as much as large ones, so those ahead are ordered by the half.
        """
        free = self.capacity - taken
        return free if free > self._ahead() // 2 else 0

    def note_run(self, seconds: float) -> None:
        """Learn from a run that ended."""
        known = self.run_seconds
        self.run_seconds = (1 - _WEIGHT) * known + _WEIGHT * seconds if known else max(seconds, 1e-6)

    def surplus(self, waiting: list[Delivery]) -> list[Delivery]:
        """Which of the messages that waited too long to give back.

        None with a fixed prefetch: that is the operator's own choice. The estimate is raised at once,
        or the same messages would be asked for again.
        """
        if self._fixed or not waiting:
            return []
        self.run_seconds = max(self.run_seconds, LONGEST_WAIT_SECONDS)
        return waiting
