"""The reconciler: finds jobs that no message stands for and sends them again.

One runs in the fleet at a time (a Postgres advisory lock). A job is overdue when it was never published,
or when nothing was heard of it after the moment its row names (`expected_by`).
What time it is, Postgres says, as it wrote the rows: were the clock of this process an hour ahead, every
running job would be taken from its worker.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, case, func, or_, select, text, update
from sqlalchemy.orm import Session

from app.jobs.contracts import CONTRACTS
from app.jobs.outbox import Envelope, Sender
from app.jobs.policy import MAX_ATTEMPTS, Policies, seconds_until
from app.jobs.pools import POOLS
from app.jobs.reconciliations import write_down
from app.storage.postgres.session import Database, after_commit
from app.storage.postgres.tables.jobs import ACTIVE_STATES, Job

logger = logging.getLogger(__name__)

_ADVISORY_LOCK = 7_201_650_044
BATCH = 1000  # jobs of one pass; whoever finds so many looks again
_ACK_WAIT_SECONDS = {pool.queue: pool.ack_wait_seconds for pool in POOLS.values()}
_PUBLISH_GRACE = timedelta(seconds=10)  # the sender of a fresh job gets so long before we step in


@dataclass(frozen=True, slots=True)
class Finding:
    """What one pass found."""

    unpublished: int
    overdue: int
    lost_workers: int
    job_ids: Mapping[str, Sequence[UUID]] = field(default_factory=dict, compare=False)  # by the names above

    @property
    def total(self) -> int:
        """All jobs that were, or would be, sent again."""
        return sum(self.counts().values())

    def __add__(self, other: Finding) -> Finding:
        """Both passes together."""
        counts = {cause: number + other.counts()[cause] for cause, number in self.counts().items()}
        ids = {cause: [*self.job_ids.get(cause, ()), *other.job_ids.get(cause, ())] for cause in counts}
        return Finding(**counts, job_ids=ids)

    def counts(self) -> dict[str, int]:
        """How many by cause."""
        return {
            "unpublished": self.unpublished, "overdue": self.overdue, "lost_workers": self.lost_workers
        }  # fmt: skip


class Reconciler:
    """Passes over the job rows.

    A running job is lost once its time limit and its queue's ack wait have both passed: the broker brings
    the message of a dead worker back long before that, unless the stream lost it.
    """

    def __init__(self, database: Database, sender: Sender, *, policies: Policies) -> None:
        self._database = database
        self._sender = sender
        self._policies = policies

    def run(self, *, dry_run: bool = False, streams_lost_at: datetime | None = None) -> Finding | None:
        """One pass; None when another process holds the lock.

        With `streams_lost_at` every job that nobody heard of since then is sent again, however recent it is:
        whoever made the streams anew need not wait until its message is missed. Each is sent once at most.
        """
        with self._database.transaction() as session:
            if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}):
                return None
            late = session.execute(self._late(streams_lost_at)).all()
            finding = _count(late)
            if late and not dry_run:
                envelopes = [_republish(session, row) for row in late]
                after_commit(session, lambda: self._sender.send(envelopes))
            if not dry_run:
                # Whoever was to admit held jobs may have died between its commit and that.
                after_commit(session, self._admit)
                write_down(session, finding.counts(), finding.job_ids)
        if finding.total and not dry_run:
            logger.warning(
                "sent again: %d never published, %d overdue, %d whose worker is gone",
                finding.unpublished, finding.overdue, finding.lost_workers,
            )  # fmt: skip
        return finding

    def _admit(self) -> None:
        for pool in POOLS.values():
            self._sender.admit(pool.queue)

    def _late(self, streams_lost_at: datetime | None):  # type: ignore[no-untyped-def]  # noqa: ANN202  a Select of eight columns
        unpublished = and_(
            Job.state == "pending",
            ~Job.held,
            Job.published_at.is_(None),
            Job.updated_at < func.now() - _PUBLISH_GRACE,
        )
        overdue = and_(Job.state.in_(("pending", "retrying")), Job.expected_by < func.now())
        missed = or_(unpublished, overdue, self._lost())
        if streams_lost_at is not None:
            missed = and_(Job.state.in_(ACTIVE_STATES), ~Job.held, Job.updated_at < streams_lost_at)
        columns = (
            Job.job_id, Job.kind, Job.queue, Job.state, Job.publication, Job.published_at, Job.attempt,
            Job.not_before, Job.trace,
        )  # fmt: skip
        return (
            select(*columns)
            .where(missed)
            .order_by(Job.created_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )

    def _lost(self) -> ColumnElement[bool]:
        limits = {kind: self._policies.of(kind).time_limit_ms / 1000 for kind in CONTRACTS}
        longest = case(limits, value=Job.kind, else_=max(limits.values()))
        silence = case(_ACK_WAIT_SECONDS, value=Job.queue, else_=max(_ACK_WAIT_SECONDS.values()))
        limit = func.make_interval(0, 0, 0, 0, 0, 0, longest + silence)
        return and_(Job.state == "running", Job.started_at + limit < func.now())


def _republish(session: Session, row: Row[tuple[object, ...]]) -> Envelope:
    # The lost message knew how many attempts had failed; the row knows the latest, which has not if it runs.
    retries = max(0, min(row.attempt - (row.state == "running"), MAX_ATTEMPTS - 1))
    session.execute(
        update(Job)
        .where(Job.job_id == row.job_id)
        .values(
            state="pending",
            publication=row.publication + 1,
            published_at=None,
            run_token=None,
            attempt=retries,
            updated_at=func.now(),
        )
    )
    return Envelope(
        job_id=row.job_id,
        kind=row.kind,
        queue=row.queue,
        publication=row.publication + 1,
        delay_seconds=seconds_until(row.not_before),
        trace=row.trace,
        retries=retries,
    )


def _count(rows: Sequence[Row[tuple[object, ...]]]) -> Finding:
    ids: dict[str, list[UUID]] = {"unpublished": [], "overdue": [], "lost_workers": []}
    for row in rows:
        ids[_cause(row)].append(row.job_id)
    return Finding(**{cause: len(found) for cause, found in ids.items()}, job_ids=ids)


def _cause(row: Row[tuple[object, ...]]) -> str:
    if row.state == "running":
        return "lost_workers"
    return "unpublished" if row.state == "pending" and row.published_at is None else "overdue"
