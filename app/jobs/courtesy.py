"""Courtesy: in a worker process the runs of a crowd make way for somebody's only one.

Admission decides whose job comes next. Once it runs, it shares the process, its interpreter's lock and its
servers with all others, and beside nine runs of somebody else it would take as long as they do. So whoever
has many runs here waits before each of its next steps, for a moment, while another owner's only run is young.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CROWD = 3  # so many runs of an owner make way
_YOUNG_SECONDS = 0.1  # a run that takes longer waits for servers, and the others need not stand by


class _Run:
    """A run in its thread; each is itself only. `here` is held until it ends."""

    def __init__(self, owner_id: str, young_until: float) -> None:
        self.owner_id = owner_id
        self.young_until = young_until
        self.here = threading.Lock()
        self.here.acquire()


class Courtesy:
    """The runs of this process; one per process, used from any thread.

    A run may be stopped in its thread at any moment, also in here, so nothing that another one needs is ever
    locked: the set's own operations are atomic, and the one lock of a run is waited for with a limit.
    """

    def __init__(self, young_seconds: float = _YOUNG_SECONDS) -> None:
        self._young_seconds = young_seconds
        self._runs: set[_Run] = set()
        self._here = threading.local()

    @contextmanager
    def running(self, owner_id: str) -> Iterator[None]:
        """Count a run of the owner in this thread, for as long as the block lasts."""
        run = _Run(owner_id, time.monotonic() + self._young_seconds)
        try:
            self._runs.add(run)
            self._here.run = run
            yield
        finally:
            self._runs.discard(run)
            run.here.release()
            self._here.run = None

    def give_way(self) -> None:
        """Wait for the single young runs of others, where this thread's run is one of many of its owner.

        For those that are there now, so nobody waits for ever. To be called between steps, with no lock held.
        """
        mine: _Run | None = getattr(self._here, "run", None)
        if mine is None:
            return
        runs = tuple(self._runs)
        owners = [run.owner_id for run in runs]
        if owners.count(mine.owner_id) < _CROWD:
            return
        for guest in runs:
            if owners.count(guest.owner_id) == 1:
                _wait_for(guest)


def _wait_for(guest: _Run) -> None:
    left = guest.young_until - time.monotonic()
    if left > 0 and guest.here.acquire(timeout=left):
        guest.here.release()
