"""From job rows to messages. A message carries the job's id; everything else is read from the row."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
from dramatiq.errors import BrokerConnectionError, BrokerError
from sqlalchemy import func, select, update

from app.errors import ExplorerError
from app.jobs import admission, policy
from app.jobs.beside import Beside
from app.jobs.outbox import Envelope
from app.observability import job_metrics, tracing
from app.storage.postgres.session import Database, need_not_last
from app.storage.postgres.tables.jobs import Job
from brokers import PublishRefusedError

logger = logging.getLogger(__name__)


class Dispatcher:
    """Sends envelopes through the broker and notes on the rows that they were sent."""

    def __init__(self, broker: dramatiq.Broker, database: Database) -> None:
        self._broker = broker
        self._database = database
        self._beside: Beside | None = None

    def send(self, envelopes: Iterable[Envelope]) -> None:
        """Publish each; what fails stays unpublished in its row and is sent by the reconciler."""
        waiting = list(envelopes)
        sent: list[Envelope] = []
        for envelope in waiting:
            try:
                self._enqueue(envelope)
            except PublishRefusedError as error:  # no room in this queue's stream; the others may have some
                logger.error("job %s waits for the reconciler: %s", envelope.job_id, error)  # noqa: TRY400
            except BrokerConnectionError as error:
                left = len(waiting) - len(sent)
                logger.warning("NATS: %s; %d of %d jobs wait for the reconciler", error, left, len(waiting))
                break
            except BrokerError as error:  # this one's queue is unknown or refuses; the others go on
                logger.error("job %s cannot be sent: %s", envelope.job_id, error)  # noqa: TRY400 no trace needed
            else:
                sent.append(envelope)
        self._note(sent)

    def _enqueue(self, envelope: Envelope) -> None:
        outcome = "failed"
        attributes = {"messaging.system": "nats", "messaging.destination.name": envelope.queue}
        try:
            with tracing.span(
                f"publish {envelope.queue}",
                "producer",
                attributes=attributes | {"job.id": str(envelope.job_id)},
                headers=envelope.trace,
                links=[tracing.elsewhere(envelope.trace)],
            ):
                self._broker.enqueue(_message(envelope), delay=_delay_ms(envelope))
            outcome = "success"
        except PublishRefusedError:
            outcome = "refused"
            raise
        finally:
            job_metrics.published(envelope.queue, outcome)

    def admit(self, queue: str) -> None:
        """Send held jobs of a queue while there is room; else the reconciler does it.

        Within `admitting_beside` another thread does it, soon.
        """
        beside = self._beside
        if beside is None:
            self._admit(queue)
        else:
            beside.ask(queue)

    @contextmanager
    def admitting_beside(self) -> Iterator[None]:
        """Let a thread of its own admit, for as long as the block lasts: runs need not wait for that."""
        self._beside = beside = Beside(self._admit)
        try:
            yield
        finally:
            self._beside = None
            beside.end()

    def _admit(self, queue: str) -> None:
        try:
            admitted = admission.admit(self._database, queue)
        except ExplorerError as error:
            logger.warning("held jobs of %s wait for the reconciler: %s", queue, error)
        else:
            self.send(admitted)

    def _note(self, sent: list[Envelope]) -> None:
        if not sent:
            return
        try:
            with self._database.transaction() as session:
                ids = [envelope.job_id for envelope in sent]
                need_not_last(session)
                mine = select(Job.job_id).where(Job.job_id.in_(ids), Job.state == "pending")
                # Whoever holds one of them begins or cancels it, and may want the next one that we hold.
                session.execute(
                    update(Job)
                    .where(Job.job_id.in_(mine.with_for_update(skip_locked=True)))
                    .values(published_at=func.now(), expected_by=policy.taken_by())
                )
        except ExplorerError as error:
            # Sent twice is harmless, so an unwritten (or undone) note costs one more message at most.
            logger.warning("could not note %d sent jobs: %s", len(sent), error)


def _delay_ms(envelope: Envelope) -> int | None:
    return int(envelope.delay_seconds * 1000) or None


def _message(envelope: Envelope) -> dramatiq.Message[Any]:
    # A re-publication gets an id of its own: within the duplicate window the stream would drop the old one.
    suffix = f":{envelope.publication}" if envelope.publication else ""
    return dramatiq.Message(
        queue_name=envelope.queue,
        actor_name=envelope.kind,
        args=(),
        kwargs={"job_id": str(envelope.job_id), "publication": envelope.publication},
        options={"max_retries": policy.MAX_ATTEMPTS - 1, "retries": envelope.retries},
        message_id=f"{envelope.job_id}{suffix}",
    )
