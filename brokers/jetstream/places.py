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
    """The places for messages of one queue in one process.

    `threads` is the number of worker threads, which all queues of the process share.
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._fixed = options.prefetch
        self.threads = 1
        self.run_seconds = 0.0  # moving average; 0 until something ran
        self._crowded_out = False  # what waited here found all threads busy with other queues

    def capacity(self, busy_elsewhere: int = 0) -> int:
        """Messages to hold at most, running ones included.

        Where other queues keep every thread busy, one message may still wait here for its turn, unless
        the last one waited in vain.
        """
        if self._fixed:
            return self._fixed
        free = self.threads - busy_elsewhere
        if free > 0:
            self._crowded_out = False
            return free + self._ahead()
        return 0 if self._crowded_out else 1

    def _ahead(self) -> int:
        if self._fixed or not self.run_seconds:
            return 0
        return min(_MOST_AHEAD, int(self.threads * _AHEAD_SECONDS / self.run_seconds))

    def wanted(self, taken: int, busy_elsewhere: int = 0) -> int:
        """How many more to ask for when `taken` are held or on their way, and threads run other queues.

        Small requests cost the server as much as large ones, so those ahead are ordered by the half.
        """
        free = self.capacity(busy_elsewhere) - taken
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
        self._crowded_out = True
        return waiting
