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
    """A run in its thread; each is itself only."""

    def __init__(self, owner_id: str, young_until: float) -> None:
        self.owner_id = owner_id
        self.young_until = young_until


class Courtesy:
    """The runs of this process; one per process, used from any thread."""

    def __init__(self, young_seconds: float = _YOUNG_SECONDS) -> None:
        self._young_seconds = young_seconds
        self._changed = threading.Condition()
        self._runs: set[_Run] = set()
        self._here = threading.local()

    @contextmanager
    def running(self, owner_id: str) -> Iterator[None]:
        """Count a run of the owner in this thread, for as long as the block lasts."""
        run = _Run(owner_id, time.monotonic() + self._young_seconds)
        with self._changed:
            self._runs.add(run)
        self._here.run = run
        try:
            yield
        finally:
            self._here.run = None
            with self._changed:
                self._runs.discard(run)
                self._changed.notify_all()

    def give_way(self) -> None:
        """Wait for the single young runs of others, where this thread's run is one of many of its owner.

        For those that are there now, so nobody waits for ever. To be called between steps, with no lock held.
        """
        mine: _Run | None = getattr(self._here, "run", None)
        if mine is None:
            return
        with self._changed:
            if sum(run.owner_id == mine.owner_id for run in self._runs) < _CROWD:
                return
            for guest in self._single_runs():
                self._wait_for(guest)

    def _single_runs(self) -> list[_Run]:
        owners = [run.owner_id for run in self._runs]
        return [run for run in self._runs if owners.count(run.owner_id) == 1]

    def _wait_for(self, guest: _Run) -> None:
        left = guest.young_until - time.monotonic()
        if left > 0:
            self._changed.wait_for(lambda: guest not in self._runs, left)
