"""Ends runs that are no longer ours: of cancelled jobs, and of jobs that another worker took over.

One thread per worker process asks Postgres every two seconds, in one query, which of the process's runs
still hold their job, and raises `RunStopped` in the threads of the others. The exception arrives as soon as
such a thread runs Python code again: a wait for a child process or for a provider's answer polls for it, a
call to another server returns first. A run that it reaches too late changes nothing either: every write is
fenced by the run's token.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import dramatiq
from dramatiq.middleware import Interrupt, Middleware, raise_thread_exception
from dramatiq.middleware.threading import is_gevent_active
from sqlalchemy import and_, func, or_, select

from app.errors import ExplorerError
from app.services.jobs import Run
from app.storage.postgres.session import Database
from app.storage.postgres.tables import Job

logger = logging.getLogger(__name__)

_PERIOD_SECONDS = 2.0
# Python drops an exception that arrives in a callback nobody waits for; then it is raised once more. Not
# sooner: a run that cleans up after itself is left in peace meanwhile.
_AGAIN_SECONDS = 10.0
# A run that has just written its success still tells listeners and sends the next jobs.
_AFTERGLOW = timedelta(minutes=1)


class RunStopped(Interrupt):
    """The run no longer holds its job; raised in its thread, whatever it is doing."""


class _Watched:
    """A run in its thread, or greenlet."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.has_left = False
        self._thread_id = threading.get_ident()
        self._greenlet = _greenlet() if is_gevent_active() else None  # type: ignore[no-untyped-call]
        self._stopped_at: float | None = None

    def stop(self) -> bool:
        """Raise RunStopped there; False when that was done just now. Called under the lock of the runs."""
        now = time.monotonic()
        if self._stopped_at is not None and now - self._stopped_at < _AGAIN_SECONDS:
            return False
        self._stopped_at = now
        logger.info("stopping a run of job %s: it was cancelled or taken over", self.job_id)
        if self._greenlet is None:
            raise_thread_exception(self._thread_id, RunStopped)  # type: ignore[no-untyped-call]
        else:
            self._throw(self._greenlet)
        return True

    def _throw(self, greenlet: Any) -> None:
        """Greenlets take turns: by the time it is this one's, the run may have left."""
        import gevent

        gevent.get_hub().loop.run_callback(lambda: self.has_left or greenlet.throw(RunStopped))

    def leave(self) -> None:
        """An exception that is on its way to this thread must not arrive in what follows the run."""
        self.has_left = True
        if self._greenlet is None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), None)


@dataclass(slots=True)
class Watch(Middleware):
    """The runs of this process, and the thread that looks after them."""

    database: Callable[[], Database]  # called in the worker, so that nothing connects before the fork
    period_seconds: float = _PERIOD_SECONDS
    _runs: dict[UUID, _Watched] = field(default_factory=dict)  # by run token
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start looking; this runs after the fork."""
        self._over.clear()
        threading.Thread(target=self._look_after, name="watch", daemon=True).start()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Stop looking, once no run is left."""
        self._over.set()

    @contextmanager
    def over(self, run: Run) -> Iterator[None]:
        """Look after a run for as long as the block lasts.

        Raises RunStopped in this thread, anywhere within the block, once the job is no longer the run's;
        never after it.
        """
        watched = _Watched(run.job_id)
        with self._lock:
            self._runs[run.token] = watched
        try:
            yield
        finally:
            while not watched.has_left:
                try:
                    with self._lock:
                        self._runs.pop(run.token, None)
                        watched.leave()
                except RunStopped:  # it arrived in this very line: the run ends anyway
                    continue

    def look(self) -> int:
        """Ask once and stop the runs that are over; returns how many. Raises UnavailableError."""
        with self._lock:
            asked = {token: watched.job_id for token, watched in self._runs.items()}
        if not asked:
            return 0
        ended = set(asked) - self._current(asked)
        # Under the lock: no run leaves its block between our look and the exception.
        with self._lock:
            return sum(self._runs[token].stop() for token in ended if token in self._runs)

    def _current(self, asked: dict[UUID, UUID]) -> set[UUID]:
        """Of the runs (job ids by token), those that hold their job or have just succeeded."""
        succeeded = and_(Job.state == "succeeded", Job.finished_at > func.now() - _AFTERGLOW)
        with self.database().transaction() as session:
            held = session.execute(
                select(Job.job_id, Job.run_token, Job.state).where(
                    Job.job_id.in_(asked.values()), or_(Job.run_token.in_(asked), succeeded)
                )
            ).all()
        tokens = {row.run_token for row in held if row.run_token in asked}
        finished = {row.job_id for row in held if row.state == "succeeded"}
        return tokens | {token for token, job_id in asked.items() if job_id in finished}

    def _look_after(self) -> None:
        while not self._over.wait(self.period_seconds):
            try:
                self.look()
            except ExplorerError as error:
                logger.warning("cannot see whether jobs were cancelled: %s; looking again", error)
            except Exception:  # whatever it is, the next look may go well
                logger.exception("cannot see whether jobs were cancelled; looking again")


def _greenlet() -> Any:
    from gevent import getcurrent

    return getcurrent()
