"""Looks after dead letters in a worker process: indexes new ones, works off bulk jobs, ends what is over.

It runs in the pool that has the reconciler, because that is where the fleet's chores are: a bulk job must go
on when the process that serves the panel is killed. Any number of workers may do it at once: they share the
consumer, and a bulk job is leased to one of them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import dramatiq
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import Middleware

from app.container import Container
from app.errors import ExplorerError
from app.observability import metrics
from app.services.letter_ends import AT_ONCE

logger = logging.getLogger(__name__)

THREADS = ("letter-index", "letter-bulks", "letter-ends")
_WAIT_SECONDS = 2.0  # for the next letter, and between two looks for a bulk job
_KEEP_SECONDS = 15.0  # between two looks for letters that are over
_PAUSE_SECONDS = 5.0  # after a failure


class LetterKeeping(Middleware):
    """Three threads: to index, for bulk jobs, which may take hours, and to end what is over."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._stop = threading.Event()

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start; this runs after the fork."""
        for name, work in zip(THREADS, (self._index, self._work_off, self._keep), strict=True):
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True).start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Stop: a bulk job is written down and left to others."""
        self._stop.set()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except (ExplorerError, BrokerConnectionError) as error:
                logger.warning("dead letters: %s; trying again", error)
                self._stop.wait(_PAUSE_SECONDS)
            except Exception:
                # These threads are what sees letters: they must outlive any mistake, also one of ours.
                logger.exception("looking after dead letters failed; trying again")
                self._stop.wait(_PAUSE_SECONDS)

    def _index(self) -> None:
        self._container.letter_index.take(wait_seconds=_WAIT_SECONDS)

    def _work_off(self) -> None:
        if not self._container.bulk_runs.run_next(lambda: not self._stop.is_set()):
            self._stop.wait(_WAIT_SECONDS)

    def _keep(self) -> None:
        ends = self._container.services.letter_ends
        is_behind = ends.keep() >= AT_ONCE
        waiting = ends.waiting()
        metrics.set_dead_letters(open_letters=waiting.open, expiring_unread=waiting.expiring_unread)
        if not is_behind:
            self._stop.wait(_KEEP_SECONDS)
