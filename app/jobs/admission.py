"""Admission: how many jobs wait on the stream, and whose is next.

Kinds of work that come by the thousand (`Contract.held`) are recorded held: the row waits in Postgres, no
message stands for it. A queue has at most `READY_AHEAD` jobs waiting on the stream; each one that a worker
takes lets the next go. So a queue is never flooded, whatever is planned, and a newcomer waits for a
handful of jobs and not for all that was planned before it. It needs no knowledge of the fleet: workers
that are free take what waits, and that is what admits more.
"""

from __future__ import annotations

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.jobs.outbox import Envelope
from app.storage.postgres.session import Database
from app.storage.postgres.tables.jobs import Job

READY_AHEAD = 8  # enough that free workers find work while the next is being sent; see docs/benchmarks

_LOCK_CLASS = 720_165  # first half of the advisory lock's key; the queue's hash is the other

# Max-min fairness: the next job is that of the owner who has the fewest at work, the oldest first. The
# recursion hops from owner to owner in the index, so its cost grows with owners and not with held jobs.
_ADMIT = text("""
    WITH RECURSIVE owners AS (
        (SELECT owner_id FROM jobs WHERE held AND state = 'pending' AND queue = :queue
         ORDER BY owner_id LIMIT 1)
        UNION ALL
        SELECT (SELECT owner_id FROM jobs WHERE held AND state = 'pending' AND queue = :queue
                AND owner_id > owners.owner_id ORDER BY owner_id LIMIT 1)
        FROM owners WHERE owners.owner_id IS NOT NULL
    ), at_work AS (
        SELECT owner_id, count(*) AS number FROM jobs
        WHERE queue = :queue AND state IN ('pending', 'running') AND NOT held GROUP BY owner_id
    ), candidates AS (
        SELECT first.job_id, first.created_at,
               coalesce(at_work.number, 0) + row_number() OVER (
                   PARTITION BY owners.owner_id ORDER BY first.created_at, first.job_id) AS share
        FROM owners CROSS JOIN LATERAL (
            SELECT job_id, created_at FROM jobs
            WHERE held AND state = 'pending' AND queue = :queue AND owner_id = owners.owner_id
            ORDER BY created_at, job_id LIMIT :room) AS first
        LEFT JOIN at_work ON at_work.owner_id = owners.owner_id
    ), chosen AS (
        SELECT job_id FROM jobs WHERE job_id IN (
            SELECT job_id FROM candidates ORDER BY share, created_at LIMIT :room)
        FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET held = false, updated_at = now() FROM chosen WHERE jobs.job_id = chosen.job_id
    RETURNING jobs.job_id, jobs.kind, jobs.queue, jobs.publication
""")


def admit(database: Database, queue: str) -> list[Envelope]:
    """Let held jobs of a queue go while there is room; whoever calls sends the envelopes.

    In a transaction of its own, one per queue at a time. Raises UnavailableError.
    """
    with database.transaction() as session:
        if not _any_held(session, queue):
            return []
        session.execute(select(func.pg_advisory_xact_lock(_LOCK_CLASS, func.hashtext(queue))))
        room = READY_AHEAD - _waiting(session, queue)
        if room <= 0:
            return []
        rows = session.execute(_ADMIT, {"queue": queue, "room": room})
        return [Envelope(*row) for row in rows]


def _any_held(session: Session, queue: str) -> bool:
    held = select(Job.job_id).where(Job.held, Job.state == "pending", Job.queue == queue).limit(1)
    return session.scalar(held) is not None


def _waiting(session: Session, queue: str) -> int:
    waiting = (Job.queue == queue, Job.state == "pending", ~Job.held)
    return session.scalar(select(func.count()).select_from(Job).where(*waiting)) or 0
