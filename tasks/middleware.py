"""What surrounds every job of a worker process: dead letters, readiness, the reconciler's clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import dramatiq
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import Middleware

from app.container import Container
from app.errors import ExplorerError
from app.jobs import message_trace, queue_depths
from app.jobs.messages import given_up, job_of
from app.jobs.reconcile import BATCH
from app.observability import job_metrics, tracing
from app.observability.health import HealthServer
from app.services import security_numbers
from app.services.burial import Burial
from brokers import DeadReason

logger = logging.getLogger(__name__)

# What a pool's jobs use: a part that they do without must not hold up a rollout.
_ALL = frozenset({"postgres", "schema", "nats"})
_NEEDED = {
    "collections": _ALL | {"s3", "tika"},
    "datasets": _ALL | {"qdrant"},
    "visualizations": _ALL | {"qdrant", "s3"},
}


class DeadLetters(Middleware):
    """Writes into the job's row that its message was given up, also when the worker never got to say so."""

    def __init__(self, container: Container, pool: str) -> None:
        self._container = container
        self._pool = pool
        job_metrics.expect_letters(pool, DeadReason)

    def after_dead_letter(self, _broker: object, message: Any, reason: object, error: object) -> None:
        """Called by the broker once the dead letter is stored."""
        job_metrics.buried(self._pool, str(reason))
        told = {"messaging.system": "nats", "dead_letter.reason": str(reason)}
        with tracing.span("dead letter", "producer", headers=message_trace.made(message), attributes=told):
            named = job_of(message)
            if named is not None:
                bury = Burial(self._container.services.jobs, self._container.feed)
                bury(*named, given_up(reason, error))


class Readiness(Middleware):
    """Serves /health, /ready and /metrics, and warms up what the first job would otherwise wait for."""

    def __init__(self, container: Container, pool: str) -> None:
        self._container = container
        self._pool = pool
        self._warm = threading.Event()
        self._server: HealthServer | None = None

    def after_process_boot(self, _broker: dramatiq.Broker) -> None:
        """Runs after the fork, before the first message is pulled."""
        settings = self._container.settings
        if settings.health_check_port:
            self._server = HealthServer(
                settings.health_check_host,
                settings.health_check_port,
                ready=self._warm.is_set,
                checks={
                    name: check
                    for name, check in self._container.health_checks.items()
                    if name in _NEEDED[self._pool]
                },
                before_scrape=self._container.refresh_numbers,
            )
            self._server.start()

    def before_worker_boot(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Maps compile code on first use: a worker that is not warm must not take a job yet."""
        if self._pool == "visualizations":
            try:
                seconds = self._container.projection_runner.warm()
                logger.info("warmed up in %.1f s", seconds)
            except Exception:  # whatever it is, a cold worker still draws maps
                logger.exception("could not warm up; the first map will be slow")
        job_metrics.set_slots(self._pool, worker.worker_threads)
        self._warm.set()
        logger.info("worker started")

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Leave the service's endpoints at once."""
        self._warm.clear()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """End children and connections."""
        if self._server is not None:
            self._server.stop()
        self._container.close()
        tracing.end()


class Admitting(Middleware):
    """Runs need not wait until the next jobs are let go: a thread of the process does that."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._open = ExitStack()

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the thread; this runs after the fork."""
        self._open.enter_context(self._container.dispatcher.admitting_beside())

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """End it: whatever the last runs let go, they let go themselves."""
        self._open.close()


class Housekeeping(Middleware):
    """Now and then: the reconciler and the sweeps; locks keep the fleet to one."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._stop = threading.Event()

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the clock."""
        threading.Thread(target=self._run, name="housekeeping", daemon=True).start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Stop the clock."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._container.settings.reconcile_interval_secs):
            for chore in (self._reconcile, self._sweep, self._measure):
                self._do(chore)

    def _do(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except (ExplorerError, BrokerConnectionError) as error:
            logger.warning("housekeeping: %s; trying again at the next tick", error)
        except Exception:
            # This thread is what finds lost jobs: it must outlive any mistake, also one of ours.
            logger.exception("housekeeping failed; trying again at the next tick")

    def _reconcile(self) -> None:
        while not self._stop.is_set():
            found = self._container.reconciler.run()
            for cause, number in (found.counts() if found else {}).items():
                job_metrics.sent_again(cause, number)
            if found is None or found.total < BATCH:
                return

    def _sweep(self) -> None:
        for what, number in self._container.sweeps.run().counts().items():
            job_metrics.found(what, number)

    def _measure(self) -> None:
        queue_depths.measure_held(self._container.database)
        security_numbers.measure(self._container.all_secrets)
        job_metrics.set_bulks(self._container.services.letter_bulks.unfinished())
