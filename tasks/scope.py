"""The scope of a run: load the job, fence it, bind log fields, turn errors into retry, death or silence."""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from dramatiq.middleware import CurrentMessage, TimeLimitExceeded

from app.container import Container
from app.errors import (
    ExplorerError,
    JobCancelledError,
    PermanentError,
    ProviderPausedError,
    TransientError,
    UnavailableError,
)
from app.jobs import message_trace, messages, policy
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import stream_of
from app.observability import job_metrics, metrics, tracing
from app.observability import logging as log_context
from app.observability.redaction import hashed
from app.services.failures import mark_failed, tell_failed
from app.services.job_replay import revive
from app.services.jobs import Run
from brokers import JetStreamMessage
from tasks.actor import Handler
from tasks.watch import RunStopped, Watch

logger = logging.getLogger(__name__)

_SHORTEST_WAIT_SECONDS = 1.0
# Where Postgres does not answer or is not migrated, until the message is looked at again.
_AWAY_SECONDS = 5.0
# How often and how far apart one looks for the migrations before that.
_LOOKS, _LOOK_SECONDS = 10, 1.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Runs handlers; one per worker process."""

    container: Container
    pool: str
    watch: Watch

    def wrap(self, kind: str, handler: Handler) -> Callable[..., None]:
        """The function that Dramatiq calls: it takes the job's id and ends with the job's state written."""
        stream = stream_of(CONTRACTS[kind].queue)

        def run_job(*, job_id: str, publication: int = 0, version: int = 1) -> None:
            if version != 1:
                raise PermanentError(f"message of version {version} is from a newer release")
            with (
                log_context.bound(job_id=job_id, kind=kind, stream=stream, delivery=_retries_so_far() + 1),
                job_metrics.active(self.pool),
                tracing.continuing(message_trace.made(CurrentMessage.get_current_message())),
            ):
                self._run(kind, UUID(job_id), publication, handler)

        return run_job

    def _wait_for_migrations(self) -> None:
        """Return once the database is this release's; raises UnavailableError after a while.

        During an upgrade new workers may come before the migrations are through: that must cost no attempt.
        """
        for _ in range(_LOOKS):
            if not self.container.schema.is_behind():
                return
            logger.info("the migrations of this release are still to come: the job waits for them")
            time.sleep(_LOOK_SECONDS)
        raise UnavailableError("the migrations of this release are still to come")

    def _run(self, kind: str, job_id: UUID, publication: int, handler: Handler) -> None:
        try:
            self._wait_for_migrations()
            run = self._begin(kind, job_id, publication)
            if run is None:
                self._repeat_death(job_id, publication)
        except UnavailableError as error:
            _hand_back(error)
            return
        if run is None:
            logger.info("nothing to do: the job has ended, is gone, or a newer message stands for it")
            return
        with log_context.bound(**_origin(run)):
            self._work(kind, run, handler)

    def _work(self, kind: str, run: Run, handler: Handler) -> None:
        """One delivery, measured and told."""
        started, status = time.monotonic(), "interrupted"  # a shutdown is no exception that is caught here
        self._note_wait(run)
        try:
            with self._courtesy(run):
                status = self._process(kind, run, handler)
            if status == "success":
                job_metrics.ended(self.pool, status, run.attempt)
        except JobCancelledError as error:
            status = "cancelled"
            logger.info("run given up: %s", error)
        except RunStopped:
            status = "cancelled"
            logger.info("run given up: it was stopped, because the job was cancelled or taken over")
        except (Exception, TimeLimitExceeded):
            status = "failed"
            raise
        finally:
            seconds = time.monotonic() - started
            metrics.observe_job(self.pool, kind, status, seconds)
            logger.info("run ended", extra={"status": status, "duration_ms": round(seconds * 1000, 1)})

    def _courtesy(self, run: Run) -> AbstractContextManager[None]:
        if run.contract.makes_way and run.owner_id is not None:
            return self.container.courtesy.running(run.owner_id)
        return nullcontext()

    def _process(self, kind: str, run: Run, handler: Handler) -> str:
        """One span in the trace of what caused the job, linked to who sent and who replayed the message.

        Returns how it ended where that is no error: success, or put_off.
        """
        links = message_trace.causes(CurrentMessage.get_current_message())
        attributes = _attributes(run)
        with tracing.span(
            f"process {kind}", "consumer", headers=run.trace, attributes=attributes, links=links
        ):
            try:
                with self.watch.over(run):
                    handler(self.container.services, run, run.contract)
            except (JobCancelledError, RunStopped):
                raise
            except (Exception, TimeLimitExceeded) as error:
                if isinstance(error, ProviderPausedError) and self._waits(run, error):
                    return "put_off"
                self._failed(run, _as_ours(error), type(error).__name__)
                raise
        return "success"

    def _note_wait(self, run: Run) -> None:
        message = CurrentMessage.get_current_message()
        if message is not None and run.attempt == 1 and not messages.redelivered(message):
            job_metrics.waited(self.pool, time.time() - message.message_timestamp / 1000)

    def _begin(self, kind: str, job_id: UUID, publication: int) -> Run | None:
        jobs, replayed = self.container.services.jobs, _replays_so_far()
        current = publication + replayed
        begin = partial(
            jobs.begin, job_id, worker_name(), publication=current, kind=kind, retries=_retries_so_far()
        )
        run = begin()
        if run is None and replayed and revive(jobs, job_id, publication=current):
            run = begin()
        return run

    def _repeat_death(self, job_id: UUID, publication: int) -> None:
        """Fail as the job did, where that has left no dead letter: the broker writes it then."""
        cause = self.container.letters.cause_untold(job_id, publication + _replays_so_far())
        if cause is not None:
            raise PermanentError(cause)

    def _waits(self, run: Run, error: ProviderPausedError) -> bool:
        """False when the job has waited too long. Where Postgres is away, too, the message waits instead."""
        try:
            return self._put_off(run, error)
        except UnavailableError as away:
            _hand_back(away)
            return True

    def _put_off(self, run: Run, error: ProviderPausedError) -> bool:
        """A provider that is not called just now costs no attempt; False when the job has waited too long."""
        # Spread: the first of those that wait is the probe, and the others come once it has ended.
        delay = max(_SHORTEST_WAIT_SECONDS, error.retry_after_seconds or 0) * random.uniform(1.0, 1.5)  # noqa: S311
        retries = _retries_so_far()
        if not self.container.services.jobs.put_off(run, error, delay_seconds=delay, retries=retries):
            return False
        logger.info("put off for %.0f s: %s", delay, error)
        return True

    def _failed(self, run: Run, error: ExplorerError, error_type: str) -> None:
        retries, told = _retries_so_far(), {"error": {"type": error_type}}
        final = isinstance(error, PermanentError) or retries + 1 >= policy.MAX_ATTEMPTS
        if not final:
            waits = self.container.policies.backoff_seconds
            delay = max(waits[retries], getattr(error, "retry_after_seconds", None) or 0)
            logger.warning("attempt %d failed, next in %.0f s: %s", retries + 1, delay, error, extra=told)
            self.container.services.jobs.retry_later(run, error, delay_seconds=delay)
            return
        logger.error("job given up after %d attempts: %s", retries + 1, error, extra=told)
        job_metrics.ended(self.pool, "failed", run.attempt)
        try:
            with self.container.database.transaction() as session:
                self.container.services.jobs.fail(session, run, error)
                subjects = mark_failed(session, run.job_id, error)
        except JobCancelledError:
            logger.info("the job was cancelled or taken over meanwhile")
        else:
            tell_failed(self.container.feed, subjects, run.job_id, error)


def _hand_back(error: UnavailableError) -> None:
    """Let the message come again as it is: nothing of the job has begun, so no attempt has failed.

    Raises the error where no message of the broker is at hand.
    """
    message: object = CurrentMessage.get_current_message()
    if not isinstance(message, JetStreamMessage):
        raise error
    delay = _AWAY_SECONDS * random.uniform(1.0, 1.5)  # noqa: S311 - not all at once
    message.hand_back(delay)
    logger.warning("not begun, looked at again in %.0f s: %s", delay, error)


def worker_name() -> str:
    """Host and process, as the job row and the logs show it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _attributes(run: Run) -> dict[str, str | int | float | bool]:
    return {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.destination.name": run.contract.queue,
        "messaging.message.delivery_count": run.attempt,
        "job.id": str(run.job_id),
    }


def _origin(run: Run) -> dict[str, str]:
    """The request that caused the job, for its log lines, and for those of the jobs that it causes."""
    whose = run.owner_id and hashed(run.owner_id)
    fields = {"request_id": run.trace.get("request_id"), "user": whose, "tenant": whose}
    return {name: value for name, value in fields.items() if value}


def _retries_so_far() -> int:
    message = CurrentMessage.get_current_message()
    return int(message.options.get("retries", 0)) if message is not None else 0


def _replays_so_far() -> int:
    message = CurrentMessage.get_current_message()
    return messages.replays(message) if message is not None else 0


def _as_ours(error: BaseException) -> ExplorerError:
    if isinstance(error, ExplorerError):
        return error
    if isinstance(error, TimeLimitExceeded):
        return TransientError("the run passed its time limit")
    logger.error("unexpected error", exc_info=error)
    return TransientError(f"unexpected {type(error).__name__}: {error}")
